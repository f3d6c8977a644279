package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"provwatch/internal/sink"
)

// sinkFlags are the values of the flags about sinks.
type sinkFlags struct {
	cluster, from string
	giveUp        time.Duration

	webhookURL, webhookSecretFile, webhookCAFile string

	alertmanagerURL, alertmanagerCAFile, alertmanagerRunbookURL string

	natsURL, natsStream, natsSubject, natsCreds, natsCAFile string
}

func (f *sinkFlags) add(p *pflag.FlagSet) {
	p.StringVar(&f.cluster, "cluster-name", "", "what sinks are told that this database is called (default: its name and the server's system identifier)")
	p.StringVar(&f.from, "sink-from", "end", "what a sink that is new gets first: start (all that is kept), end (what comes from now on)")
	p.DurationVar(&f.giveUp, "sink-give-up", time.Hour, "how long a sink is sent an event that it does not take, before it becomes a dead letter")
	p.StringVar(&f.webhookURL, "webhook-url", "", "post alerts and audit entries to this URL as CloudEvents, signed by --webhook-secret-file")
	p.StringVar(&f.webhookSecretFile, "webhook-secret-file", "", "file of the secrets that --webhook-url knows, a line each")
	p.StringVar(&f.webhookCAFile, "webhook-ca-file", "", "CAs that may sign the certificate of --webhook-url (default: the system's)")
	p.StringVar(&f.alertmanagerURL, "alertmanager-url", "", "send alerts to the Prometheus Alertmanager at this URL, or to all members of a cluster at URLs separated by commas")
	p.StringVar(&f.alertmanagerCAFile, "alertmanager-ca-file", "", "CAs that may sign the certificate of --alertmanager-url (default: the system's)")
	p.StringVar(&f.alertmanagerRunbookURL, "alertmanager-runbook-url", "", "annotation runbook_url of the alerts sent to --alertmanager-url")
	p.StringVar(&f.natsURL, "nats-url", "", "publish alerts and audit entries to NATS JetStream at these URLs, separated by commas")
	p.StringVar(&f.natsStream, "nats-stream", "", "the stream that must take what is published to --nats-url (default: whichever has the subject)")
	p.StringVar(&f.natsSubject, "nats-subject", "provwatch", "what the subjects of --nats-url begin with")
	p.StringVar(&f.natsCreds, "nats-creds", "", "credentials file of the user of --nats-url")
	p.StringVar(&f.natsCAFile, "nats-ca-file", "", "CAs that may sign the certificate of --nats-url (default: the system's)")
}

// problems returns what can be told to be wrong without reading a file.
func (f *sinkFlags) problems() (all []problem) {
	wrong := func(flag, want string) { all = append(all, problem{flag: flag, want: want}) }
	if !slices.Contains([]string{"start", "end"}, f.from) {
		wrong("sink-from", "must be one of start, end")
	}
	if f.giveUp <= 0 {
		wrong("sink-give-up", "must be positive, such as 30s")
	}
	for _, needed := range []struct{ flag, value, by, with string }{
		{"webhook-secret-file", f.webhookSecretFile, "webhook-url", f.webhookURL},
		{"webhook-url", f.webhookURL, "webhook-secret-file", f.webhookSecretFile},
		{"webhook-url", f.webhookURL, "webhook-ca-file", f.webhookCAFile},
		{"alertmanager-url", f.alertmanagerURL, "alertmanager-ca-file", f.alertmanagerCAFile},
		{"alertmanager-url", f.alertmanagerURL, "alertmanager-runbook-url", f.alertmanagerRunbookURL},
		{"nats-url", f.natsURL, "nats-stream", f.natsStream},
		{"nats-url", f.natsURL, "nats-creds", f.natsCreds},
		{"nats-url", f.natsURL, "nats-ca-file", f.natsCAFile},
	} {
		if needed.with != "" && needed.value == "" {
			wrong(needed.flag, "is needed by --"+needed.by)
		}
	}
	if u, err := url.Parse(f.alertmanagerRunbookURL); err != nil || f.alertmanagerRunbookURL != "" && !u.IsAbs() {
		wrong("alertmanager-runbook-url", "must be an absolute URL")
	}
	return all
}

// options returns the sinks that are configured. Nothing is connected to yet.
func (f *sinkFlags) options() (sink.Options, error) {
	o := sink.Options{Cluster: f.cluster, FromStart: f.from == "start", GiveUp: f.giveUp}
	var failed error
	add := func(s sink.Sink, name string, err error) {
		if err != nil {
			flag := name + "-url"
			if wrong, ok := errors.AsType[*sink.SettingError](err); ok {
				flag = name + "-" + wrong.Setting
			}
			failed = errors.Join(failed, fmt.Errorf("--%s (or %s) cannot be used: %w", flag, variableOf(flag), err))
		}
		o.Sinks = append(o.Sinks, s)
	}
	if f.webhookURL != "" {
		s, err := sink.NewWebhook(f.webhookURL, f.webhookSecretFile, f.webhookCAFile)
		add(s, "webhook", err)
	}
	if f.alertmanagerURL != "" {
		s, err := sink.NewAlertmanager(f.alertmanagerURL, f.alertmanagerCAFile, f.alertmanagerRunbookURL)
		add(s, "alertmanager", err)
	}
	if f.natsURL != "" {
		s, err := sink.NewNATS(f.natsURL, f.natsStream, f.natsSubject, f.natsCreds, f.natsCAFile)
		add(s, "nats", err)
	}
	if failed != nil {
		return sink.Options{}, &usageError{failed}
	}
	return o, nil
}
