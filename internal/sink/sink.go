// Package sink delivers alerts and audit entries to systems outside the database,
// from the tables that hold them: at least once, in order per provider
// (docs/sinks.md).
package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
)

// Stream is one of the tables that sinks are fed from.
type Stream string

// The streams.
const (
	Drift Stream = "drift" // provwatch.drift_alerts
	Audit Stream = "audit" // provwatch.audit_log
)

// Event is an alert or an audit entry on its way to a sink.
type Event struct {
	Stream Stream
	// Seq is the event's place in its stream.
	Seq int64
	// ID is that of the alert or the entry: the same each time that it is sent.
	ID       uuid.UUID
	Provider string
	Time     time.Time
	// Cluster names the database that it comes from (--cluster-name).
	Cluster string
	// Data is the whole payload, by docs/schemas/drift.json or audit.json.
	Data json.RawMessage

	// alert is the alert of [Drift], nil of [Audit].
	alert *pubsub.DriftAlert
	// unusable is why the event's row cannot be sent, nil if it can.
	unusable error
}

// kind is the alert's, empty for an audit entry.
func (e Event) kind() drift.Kind {
	if e.alert == nil {
		return ""
	}
	return e.alert.Kind
}

// isSilenced reports whether a silence keeps the event from sinks.
func (e Event) isSilenced() bool { return e.alert != nil && e.alert.Silenced }

// subject is what an alert is about: a provider, or an unmanaged row.
func (e Event) subject() drift.Subject {
	if e.alert != nil && e.alert.Unmanaged {
		return e.alert.Subject()
	}
	return drift.Subject{Provider: e.Provider}
}

// hasProvider is false of a gap or a rewind, which are about no provider.
func (e Event) hasProvider() bool { return e.kind().HasProvider() }

// CloudEvent returns the event as CloudEvents 1.0 JSON in structured mode.
func (e Event) CloudEvent() ([]byte, error) {
	c := event.New(event.CloudEventsVersionV1)
	c.SetID(e.ID.String())
	c.SetSource("urn:provwatch:" + url.PathEscape(e.Cluster))
	c.SetType(fmt.Sprintf("dev.provwatch.%s.v%d", e.Stream, pubsub.Version))
	if e.Provider != "" {
		c.SetSubject(e.Provider)
	}
	c.SetTime(e.Time)
	// By it consumers that get repeats find the older event.
	c.SetExtension("sequence", fmt.Sprintf("%020d", e.Seq))
	if err := c.SetData(event.ApplicationJSON, e.Data); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// The names of the sinks.
const (
	alertmanagerName = "alertmanager"
	natsName         = "nats"
	webhookName      = "webhook"
)

// Names are the names of all sinks, in their order.
var Names = []string{alertmanagerName, natsName, webhookName}

// Sink is where events are delivered to. Events of different streams are sent at
// the same time.
type Sink interface {
	// Name is the sink's, in tables, metrics and logs.
	Name() string
	// Streams are the streams that the sink takes.
	Streams() []Stream
	// Send returns nil once the sink has acknowledged the event. The error is a
	// [*RefusedError] when a retry makes no sense, and a [*BusyError] when the sink asks
	// for a pause. It holds no secret.
	Send(context.Context, Event) error
	// Close ends connections that the sink keeps. It can be sent to again.
	Close()
}

// repeater is a sink to which the alerts that fire are sent again and again.
type repeater interface {
	Sink
	// Restore replaces what the sink knows by the last alerts of providers: of the
	// providers that drift, and of the ones whose drift ended above the cursor. An alert
	// above the cursor follows the provider's last alert up to it. Recent alerts about no
	// provider are included.
	Restore([]Event)
	// Interval is how often to call Repeat.
	Interval() time.Duration
	// Repeat sends the alerts again, and reports whether there are any. After a failure
	// the next call sends them.
	Repeat(context.Context) (bool, error)
}

// SettingError is returned for a sink's setting that cannot be used.
type SettingError struct {
	// Setting is what its flag has after the sink's name, such as "secret-file".
	Setting string
	Err     error
}

func (e *SettingError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong with it.
func (e *SettingError) Unwrap() error { return e.Err }

// RefusedError is returned when a sink refuses an event for good.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// BusyError is returned when a sink asks for a pause.
type BusyError struct {
	Reason string
	After  time.Duration
}

func (e *BusyError) Error() string { return e.Reason }

// Options configure what is delivered, and where to. Their zero value has no sink.
type Options struct {
	Sinks []Sink
	// Cluster names the database in every event (--cluster-name); empty for its name
	// and the server's system identifier.
	Cluster string
	// FromStart lets a new sink begin at the first event of the tables
	// (--sink-from=start).
	FromStart bool
	// GiveUp is how long a failed event is retried (--sink-give-up).
	GiveUp time.Duration
}

// token makes text one token of a NATS subject.
func token(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() == 0 {
		return "%"
	}
	return b.String()
}
