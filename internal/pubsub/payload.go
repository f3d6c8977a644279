package pubsub

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// Version is the value of the field "v" of every payload. It changes when a
// field changes its meaning or goes away, not when one is added.
const Version = 1

// MaxPayload is the largest payload sent, in bytes. PostgreSQL's own limit is
// 7,999.
const MaxPayload = 7899

// maxNameShown bounds the provider's name in a truncated payload, in bytes.
// Names have no bound of their own.
const maxNameShown = 256

// Source says what prompted the verification that found a drift.
type Source string

// The sources of a verification (docs/specification.md, section 7).
const (
	SourceBoot   Source = "boot"
	SourceNotify Source = "notify"
	SourceResync Source = "resync"
	SourceReload Source = "reload"
	SourceWAL    Source = "wal"
	// SourceSilence is that of an alert which repeats another one after its silence, and of no
	// verification.
	SourceSilence Source = "silence"
)

// Commit is the transaction that an alert from the WAL comes from.
type Commit struct {
	LSN         string    `json:"lsn"` // the end of its commit record
	XID         int64     `json:"xid"`
	CommittedAt time.Time `json:"committed_at"`
}

// Truncation is part of every payload. A payload that would be too long is sent
// without its open-ended fields, with Truncated set and Row naming the table row
// that holds the whole.
type Truncation struct {
	Truncated bool   `json:"truncated,omitempty"`
	Row       string `json:"row,omitempty"`
}

// DriftAlert is the payload of [DriftAlerts], schema docs/schemas/drift.json.
type DriftAlert struct {
	V          int           `json:"v"`
	ID         uuid.UUID     `json:"id"`
	Seq        int64         `json:"seq"`
	Kind       drift.Kind    `json:"kind"`
	Provider   string        `json:"provider"`
	ProviderID *uuid.UUID    `json:"provider_id"` // null when there is no row
	Fields     []drift.Field `json:"fields"`
	EnvHash    string        `json:"env_hash"`
	DBHash     string        `json:"db_hash"` // empty when there is none
	// HashKeyed reports whether a hash is a keyed digest: see [provider.Hasher].
	HashKeyed  bool      `json:"hash_keyed,omitempty"`
	Source     Source    `json:"source"`
	DetectedAt time.Time `json:"detected_at"`
	// Moved is of a drift, and empty where nothing is known of it. How and Resolves are of
	// [drift.Resolved]: how the drift ended, and the seq of the alert that is ended, 0 where
	// the drift was never alerted.
	Moved    drift.Moved `json:"moved,omitempty"`
	How      drift.How   `json:"how,omitempty"`
	Resolves int64       `json:"resolves,omitempty"`
	// RenamedTo is the name that the provider's row has now, of [drift.Missing]; empty where
	// the row was not renamed.
	RenamedTo string `json:"renamed_to,omitempty"`
	// Unmanaged is set of an alert about an unmanaged row: its subject is the row of
	// ProviderID, and not the provider of the name. No payload has it.
	Unmanaged bool `json:"-"`
	// Silenced is set where a silence matched the alert as it was recorded: no sink gets it.
	Silenced bool `json:"silenced,omitempty"`
	// Repeats is the seq of the silenced alert that this one repeats: the drift has outlived its
	// silence. 0 for none.
	Repeats int64 `json:"repeats,omitempty"`
	// Epoch is that of the sequence: with another one, an alert that was known can be
	// gone, and its seq can be another's.
	Epoch uuid.UUID `json:"epoch"`
	// Reason is of an alert without a provider alone, and Certain of [drift.Rewound].
	Reason  string `json:"reason,omitempty"`
	Certain *bool  `json:"certain,omitempty"`
	*Commit        // of an alert from the WAL, else nil
	Truncation
}

// NewDriftAlert returns the payload of an alert that was recorded.
func NewDriftAlert(stored store.StoredAlert) DriftAlert {
	a := DriftAlert{
		V: Version, ID: stored.ID, Seq: stored.Seq, Kind: stored.Kind, Provider: stored.Provider, Fields: stored.Fields,
		EnvHash: stored.EnvHash, DBHash: stored.DBHash, HashKeyed: provider.IsKeyed(stored.EnvHash) || provider.IsKeyed(stored.DBHash),
		Source: Source(stored.Source), DetectedAt: stored.DetectedAt, Epoch: stored.Epoch, Reason: stored.Reason, Certain: stored.Certain,
		Moved: stored.Moved, How: stored.How, Resolves: stored.Resolves, RenamedTo: stored.RenamedTo, Unmanaged: stored.Unmanaged,
		Silenced: stored.Silenced, Repeats: stored.Repeats,
	}
	if stored.ProviderID != uuid.Nil {
		a.ProviderID = &stored.ProviderID
	}
	if stored.LSN != "" {
		a.Commit = &Commit{LSN: stored.LSN, XID: stored.XID, CommittedAt: stored.CommittedAt}
	}
	return a
}

// Subject returns what the alert is about.
func (a DriftAlert) Subject() drift.Subject {
	if a.Unmanaged && a.ProviderID != nil {
		return drift.Subject{Row: *a.ProviderID}
	}
	return drift.Subject{Provider: a.Provider}
}

// Whole returns the alert as JSON of any length.
func (a DriftAlert) Whole() string { return encode(a.exact()) }

// exact returns the alert with its times as they are shown.
func (a DriftAlert) exact() DriftAlert {
	// To the microsecond, as the row has it.
	a.V, a.DetectedAt = Version, shown(a.DetectedAt).Truncate(time.Microsecond)
	if a.Commit != nil {
		utc := *a.Commit
		utc.CommittedAt = shown(utc.CommittedAt)
		a.Commit = &utc
	}
	if a.Fields == nil {
		a.Fields = []drift.Field{}
	}
	a.HashKeyed = provider.IsKeyed(a.EnvHash) || provider.IsKeyed(a.DBHash)
	return a
}

// Payload returns the alert as a NOTIFY payload.
func (a DriftAlert) Payload() string {
	a = a.exact()
	full := encode(a)
	if len(full) <= MaxPayload {
		return full
	}
	a.Truncation = Truncation{Truncated: true, Row: fmt.Sprintf("provwatch.drift_alerts seq=%d", a.Seq)}
	a.Fields = []drift.Field{}
	a.Provider, a.Reason, a.RenamedTo = cut(a.Provider), cut(a.Reason), cut(a.RenamedTo)
	return encode(a)
}

// Seeded is the payload of [Seeds], schema docs/schemas/seeded.json.
type Seeded struct {
	V          int           `json:"v"`
	Provider   string        `json:"provider"`
	ProviderID uuid.UUID     `json:"provider_id"`
	Type       provider.Type `json:"type"`
	BaseURL    string        `json:"base_url"` // without userinfo and query
	Keys       int           `json:"keys"`     // how many keys were stored
	SeededAt   time.Time     `json:"seeded_at"`
	Truncation
}

// Payload returns the message as a NOTIFY payload.
func (s Seeded) Payload() string {
	s.V, s.SeededAt = Version, shown(s.SeededAt)
	full := encode(s)
	if len(full) <= MaxPayload {
		return full
	}
	s.Truncation = Truncation{Truncated: true, Row: "ai_providers id=" + s.ProviderID.String()}
	s.BaseURL, s.Provider = "", cut(s.Provider)
	return encode(s)
}

// AuditEntry is the payload of [AuditEntries], schema docs/schemas/audit.json.
type AuditEntry struct {
	V          int             `json:"v"`
	ID         uuid.UUID       `json:"id"`
	Actor      string          `json:"actor"`
	Action     string          `json:"action"`
	Provider   string          `json:"provider"`
	ProviderID *uuid.UUID      `json:"provider_id"`
	Details    json.RawMessage `json:"details"`
	OccurredAt time.Time       `json:"occurred_at"`
	Truncation
}

// Whole returns the entry as JSON of any length: truncated only where the details
// cannot be JSON.
func (e AuditEntry) Whole() string {
	if !e.encodable() {
		return e.Payload()
	}
	e.V, e.OccurredAt = Version, shown(e.OccurredAt)
	return encode(e)
}

// encodable reports whether the details can be part of JSON. They are what a row
// holds: jsonb nests deeper than this JSON may, and is UTF-8 only in a database
// that is.
func (e AuditEntry) encodable() bool { return json.Valid(e.Details) && utf8.Valid(e.Details) }

// Payload returns the entry as a NOTIFY payload.
func (e AuditEntry) Payload() string {
	e.V, e.OccurredAt = Version, shown(e.OccurredAt)
	if e.encodable() {
		if full := encode(e); len(full) <= MaxPayload {
			return full
		}
	}
	e.Truncation = Truncation{Truncated: true, Row: "provwatch.audit_log id=" + e.ID.String()}
	e.Details = json.RawMessage("{}")
	e.Actor, e.Action, e.Provider = cut(e.Actor), cut(e.Action), cut(e.Provider)
	return encode(e)
}

// Event is what happened to a worker.
type Event string

// The events in a worker's life.
const (
	// EventReady: seeded, listening, and verified once.
	EventReady Event = "ready"
	// EventReconnected: the listening connection was lost and is back;
	// everything is verified again.
	EventReconnected Event = "reconnected"
	// EventLeading: the worker became the one that publishes alerts.
	EventLeading Event = "leading"
	// EventSource: alerts come from another source now.
	EventSource Event = "source"
	// EventDeadLetter: a sink refused an event, or did not take it in time.
	EventDeadLetter Event = "dead_letter"
	// EventSinkGap: events were deleted before a sink had them.
	EventSinkGap Event = "sink_gap"
	// EventReloaded: the environment file was read again.
	EventReloaded Event = "reloaded"
	// EventStopping: the worker was asked to stop.
	EventStopping Event = "stopping"
)

// Status is the payload of [Statuses], schema docs/schemas/status.json.
type Status struct {
	V         int       `json:"v"`
	Event     Event     `json:"event"`
	Worker    uuid.UUID `json:"worker"`  // made anew at each start
	Version   string    `json:"version"` // of the worker's binary
	Providers int       `json:"providers"`
	Source    string    `json:"source,omitempty"` // of alerts: notify, wal or resync
	Reason    string    `json:"reason,omitempty"` // of a change of source, or what a sink did not get
	At        time.Time `json:"at"`
}

// Payload returns the message as a NOTIFY payload. Its open-ended fields are cut.
func (s Status) Payload() string {
	s.V, s.At = Version, shown(s.At)
	s.Version, s.Reason = cut(s.Version), cut(s.Reason)
	return encode(s)
}

func encode(message any) string {
	encoded, err := json.Marshal(message)
	if err != nil {
		panic("pubsub: a payload of plain fields always marshals: " + err.Error())
	}
	return string(encoded)
}

// shown returns a time in UTC, the nearest that RFC 3339 has: PostgreSQL's go
// further.
func shown(t time.Time) time.Time {
	t = t.UTC()
	if earliest := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC); t.Before(earliest) {
		return earliest
	}
	if latest := time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC); t.After(latest) {
		return latest
	}
	return t
}

// cut shortens a name to what a truncated payload has room for, between two
// characters. JSON escapes blow a byte up to six, which the limit allows for.
func cut(name string) string { return provider.CutText(name, maxNameShown) }
