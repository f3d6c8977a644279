package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
)

// Recording is what is recorded in one statement. It is refused when the generation, the
// term or the epoch is another by then.
type Recording struct {
	Generation, Term int64
	Epoch            uuid.UUID
	Source           string

	States    []NamedState // one of a provider
	Bases     []NamedBase  // one of a provider
	Withdrawn []NamedAcceptance
	Forgotten []string // providers of which nothing is recorded any more
	// Reasons are why providers cannot be compared, by name, empty for comparable ones.
	Reasons map[string]string
	Alerts  []Alert // in the order of their seqs, which go on from the last one
}

// NamedAcceptance is an accepted drift of a provider.
type NamedAcceptance struct {
	Provider string
	drift.Acceptance
}

// Alert is a row of drift_alerts, and the notification that goes with it.
type Alert struct {
	Seq             int64
	ID              uuid.UUID
	Kind            drift.Kind
	Provider        string
	ProviderID      uuid.UUID // uuid.Nil for none
	Fields          []drift.Field
	EnvHash, DBHash string
	DetectedAt      time.Time
	// LSN, XID and CommittedAt are those of the transaction that an alert of the WAL is
	// from. Without one they are zero.
	LSN         string
	XID         int64
	CommittedAt time.Time
	Reason      string
	Moved       drift.Moved // empty where nothing is known of it
	How         drift.How   // of [drift.Resolved] alone
	Resolves    int64       // the seq of the alert that is ended, 0 for none
	Payload     string
}

// stateRecord is a state of the query record.
type stateRecord struct {
	Provider    text       `json:"provider"`
	ProviderID  *uuid.UUID `json:"provider_id"`
	Kind        text       `json:"kind"`
	EnvHash     text       `json:"env_hash"`
	DBHash      text       `json:"db_hash"`
	Credentials text       `json:"credentials"`
	AlertSeq    *int64     `json:"alert_seq"`
}

// acceptanceRecord is an acceptance of the queries record, pruneAcceptances and markAcceptances.
type acceptanceRecord struct {
	Provider text `json:"provider"`
	Kind     text `json:"kind"`
	EnvHash  text `json:"env_hash"`
	DBHash   text `json:"db_hash"`

	ExpiresAt *timestamp `json:"expires_at"`
}

func (a NamedAcceptance) record() acceptanceRecord {
	r := acceptanceRecord{Provider: text(a.Provider), Kind: text(a.Kind), EnvHash: text(a.EnvHash), DBHash: text(a.DBHash)}
	if !a.Expires.IsZero() {
		expires := timestamp(a.Expires)
		r.ExpiresAt = &expires
	}
	return r
}

// reasonRecord is a provider that cannot be compared, of the query record.
type reasonRecord struct {
	Provider text `json:"provider"`
	Reason   text `json:"reason"`
}

// alertRecord is an alert of the query record.
type alertRecord struct {
	Seq         int64           `json:"seq"`
	ID          uuid.UUID       `json:"id"`
	Kind        text            `json:"kind"`
	Provider    text            `json:"provider"`
	ProviderID  *uuid.UUID      `json:"provider_id"`
	Fields      json.RawMessage `json:"fields"`
	EnvHash     text            `json:"env_hash"`
	DBHash      text            `json:"db_hash"`
	DetectedAt  timestamp       `json:"detected_at"`
	LSN         *text           `json:"lsn"`
	XID         *int64          `json:"xid"`
	CommittedAt *timestamp      `json:"committed_at"`
	Reason      text            `json:"reason"`
	Moved       text            `json:"moved"`
	How         text            `json:"how"`
	Resolves    *int64          `json:"resolves"`
	Payload     text            `json:"payload"`
}

// Record records, and sends the notifications of the alerts. It returns the generation
// that this makes, 0 when it was refused.
func (q *Queries) Record(ctx context.Context, r Recording) (generation int64, err error) {
	params := recordParams{Generation: r.Generation, Term: r.Term, Epoch: r.Epoch, Source: r.Source, Forgotten: r.Forgotten}
	states := make([]stateRecord, len(r.States))
	for i, s := range r.States {
		states[i] = stateRecord{
			Provider: text(s.Provider), ProviderID: nonzero(s.ProviderID), Kind: text(s.Kind),
			EnvHash: text(s.EnvHash), DBHash: text(s.DBHash), Credentials: text(s.Credentials), AlertSeq: nonzero(s.AlertSeq),
		}
	}
	withdrawn := make([]acceptanceRecord, len(r.Withdrawn))
	for i, a := range r.Withdrawn {
		withdrawn[i] = a.record()
	}
	var reasons []reasonRecord
	for _, name := range slices.Sorted(maps.Keys(r.Reasons)) {
		if reason := r.Reasons[name]; reason == "" {
			params.Compared = append(params.Compared, name)
		} else {
			reasons = append(reasons, reasonRecord{Provider: text(name), Reason: text(reason)})
		}
	}
	alerts := make([]alertRecord, len(r.Alerts))
	for i, a := range r.Alerts {
		if alerts[i], err = a.record(); err != nil {
			return 0, err
		}
	}
	if params.States, err = encode(states); err != nil {
		return 0, err
	}
	if params.Bases, err = encodeBases(r.Bases); err != nil {
		return 0, err
	}
	if params.Withdrawn, err = encode(withdrawn); err != nil {
		return 0, err
	}
	if params.NotComparable, err = encode(reasons); err != nil {
		return 0, err
	}
	if params.Alerts, err = encode(alerts); err != nil {
		return 0, err
	}
	done, err := q.record(ctx, params)
	if err != nil || len(done) == 0 {
		return 0, err
	}
	return done[0].Generation, nil
}

func (a Alert) record() (alertRecord, error) {
	fields, err := json.Marshal(notNil(a.Fields))
	if err != nil {
		return alertRecord{}, fmt.Errorf("encode the fields of provider %q: %w", a.Provider, err)
	}
	r := alertRecord{
		Seq: a.Seq, ID: a.ID, Kind: text(a.Kind), Provider: text(a.Provider), ProviderID: nonzero(a.ProviderID), Fields: fields,
		EnvHash: text(a.EnvHash), DBHash: text(a.DBHash), DetectedAt: timestamp(a.DetectedAt),
		LSN: nullable(a.LSN), XID: nonzero(a.XID), Reason: text(a.Reason), Payload: text(a.Payload),
		Moved: text(a.Moved), How: text(a.How), Resolves: nonzero(a.Resolves),
	}
	if !a.CommittedAt.IsZero() {
		at := timestamp(a.CommittedAt)
		r.CommittedAt = &at
	}
	return r, nil
}

// nonzero returns a value, nil for the zero one.
func nonzero[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}
