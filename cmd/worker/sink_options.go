package main

import (
	"errors"
	"fmt"

	"provwatch/internal/sink"
)

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
