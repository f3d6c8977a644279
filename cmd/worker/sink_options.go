package main

import (
	"errors"
	"fmt"
	"time"

	"provwatch/internal/sink"
)

// sinkFlags are the values of the flags about sinks.
type sinkFlags struct {
	cluster string
	from    start
	giveUp  time.Duration

	webhookURL, webhookSecretFile, webhookCAFile string

	alertmanagerURL, alertmanagerCAFile, alertmanagerRunbookURL string

	natsURL, natsStream, natsSubject, natsCreds, natsCAFile string
}

// start is where a new sink begins (--sink-from).
type start string

const (
	fromStart start = "start"
	fromEnd   start = "end"
)

// conflicts returns which flags lack another one.
func (f *sinkFlags) conflicts() (all []problem) {
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
			all = append(all, problem{flag: needed.flag, want: "is needed by --" + needed.by})
		}
	}
	return all
}

// options returns the sinks that are configured. Nothing is connected to yet.
func (f *sinkFlags) options() (sink.Options, error) {
	o := sink.Options{Cluster: f.cluster, FromStart: f.from == fromStart, GiveUp: f.giveUp}
	var failed error
	add := func(s sink.Sink, name string, err error) {
		if err != nil {
			flag := name + "-url"
			if wrong, ok := errors.AsType[*sink.SettingError](err); ok {
				flag = name + "-" + wrong.Setting
			}
			failed = errors.Join(failed, fmt.Errorf("%s cannot be used: %w", flagOrVariable(flag), err))
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
