// Package pubsub gives the NOTIFY channels their names and their payloads their
// types (docs/specification.md, sections 6 and 7).
package pubsub

// Channel is the name of a NOTIFY channel.
type Channel string

const (
	// ProvidersChanged is listened to: any payload or none, from our triggers
	// or from another program. A payload is a hint and never data.
	ProvidersChanged Channel = "ai_providers_changed"

	// DriftAlerts carries a [DriftAlert] for each row of provwatch.drift_alerts.
	DriftAlerts Channel = "ai_provider_drift"
	// Seeds carries a [Seeded] for each provider that a seed inserted. Workers
	// listen to it, too: as a hint that something must be read.
	Seeds Channel = "ai_provider_seeded"
	// AuditEntries carries an [AuditEntry] for each row of provwatch.audit_log.
	AuditEntries Channel = "ai_provider_audit"
	// Statuses carries a [Status] for each event in a worker's life.
	Statuses Channel = "provwatch_status"

	// SinkRequests is listened to by workers that have sinks: there are dead letters
	// to be tried again.
	SinkRequests Channel = "provwatch_sinks"
	// StagedEntries is listened to by all workers: there are audit entries in the
	// outbox, staged by who does not deliver them.
	StagedEntries Channel = "provwatch_outbox"
	// Silences is listened to by all workers: a silence was made, or was ended before its
	// time.
	Silences Channel = "provwatch_silences"
	// Environments is listened to by all workers: another environment is the newest.
	Environments Channel = "provwatch_environments"
)
