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

// AnyEnvironment stands for the newest generation of environments where that does not matter,
// or is not known.
const AnyEnvironment = -1

// Recording is what is recorded in one statement. It is refused when the generation, the
// term, the epoch or the newest generation of environments is another by then.
type Recording struct {
	Generation, Term int64
	// NewestEnvironment is the newest generation of environments, or [AnyEnvironment].
	NewestEnvironment int64
	Epoch             uuid.UUID

	States     []NewState  // one of a provider
	Bases      []NamedBase // one of a provider
	Withdrawn  []NamedAcceptance
	Pending    []NamedPending // one of a provider
	NotPending []string       // providers of which no drift is pending any more
	Forgotten  []string       // providers of which nothing is recorded any more
	// Reasons are why providers cannot be compared, by name, empty for comparable ones.
	Reasons map[string]string
	Alerts  []NewAlert // in the order of their seqs, which go on from the last one

	// Rows are the states of unmanaged rows, and ForgottenRows those of which nothing is
	// recorded any more. An id is in one of the two at most.
	Rows          []NewState
	ForgottenRows []uuid.UUID
	// PendingRows are the pending drifts of unmanaged rows, one of a row, and NotPendingRows the
	// rows of which none is pending any more.
	PendingRows    []NamedPending
	NotPendingRows []uuid.UUID
	// NamedBefore are rows that the environment has named, by id with the name of the
	// provider: they become known, unless something is recorded of them. None is in Rows.
	NamedBefore map[uuid.UUID]string
	// WithdrawnRows are acceptances of unmanaged rows, by id.
	WithdrawnRows map[uuid.UUID]drift.Acceptance
}

// NewState is a state to record.
type NewState struct {
	Provider string
	drift.State
	AlertSeq int64 // of the latest alert of the drift that lasts, 0 for none
	// Silenced is set where no alert of the drift was for sinks. Where it is nil, the
	// silences that match the provider decide.
	Silenced *bool
}

// NewAlert is an alert to record, and the notification that goes with it.
type NewAlert struct {
	Alert
	Source string
	// Silenced is set where no sink gets the alert. Where it is nil, the silences that match
	// its provider decide.
	Silenced *bool
	// Payload is the notification, and SilencedPayload the one where the alert is silenced.
	Payload, SilencedPayload string
}

// Written is what was recorded in one statement.
type Written struct {
	Generation int64   // that it made, 0 where it was refused
	Silenced   []int64 // the seqs of the alerts that no sink gets
}

// NamedAcceptance is an accepted drift of a provider.
type NamedAcceptance struct {
	Provider string
	drift.Acceptance
}

// Alert is a row of drift_alerts.
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
	Repeats     int64       // the seq of the alert that is repeated, 0 for none
	RenamedTo   string      // the row's name now, of [drift.Missing], empty where it was not renamed
	Unmanaged   bool        // it is about the row of ProviderID, which the environment does not name
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
	Silenced    *bool      `json:"silenced"`
}

// acceptanceRecord is an acceptance of the queries record, pruneAcceptances and markAcceptances.
type acceptanceRecord struct {
	Provider text `json:"provider"`
	Kind     text `json:"kind"`
	EnvHash  text `json:"env_hash"`
	DBHash   text `json:"db_hash"`

	ExpiresAt  *timestamp `json:"expires_at"`
	AcceptedAt *timestamp `json:"accepted_at"` // of the query record alone
}

func (a NamedAcceptance) record() acceptanceRecord {
	return acceptanceRecord{
		Provider: text(a.Provider), Kind: text(a.Kind), EnvHash: text(a.EnvHash), DBHash: text(a.DBHash),
		ExpiresAt: timestampOf(a.Expires), AcceptedAt: timestampOf(a.AcceptedAt),
	}
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
	Source      text            `json:"source"`
	DetectedAt  timestamp       `json:"detected_at"`
	LSN         *text           `json:"lsn"`
	XID         *int64          `json:"xid"`
	CommittedAt *timestamp      `json:"committed_at"`
	Reason      text            `json:"reason"`
	Moved       text            `json:"moved"`
	How         text            `json:"how"`
	Resolves    *int64          `json:"resolves"`
	Repeats     *int64          `json:"repeats"`
	RenamedTo   text            `json:"renamed_to"`
	Unmanaged   bool            `json:"unmanaged"`
	Silenced    *bool           `json:"silenced"`
	Payload     text            `json:"payload"`

	SilencedPayload text `json:"silenced_payload"`
}

// Record records, and sends the notifications of the alerts.
func (q *Queries) Record(ctx context.Context, r Recording) (Written, error) {
	params, err := r.params()
	if err != nil {
		return Written{}, err
	}
	done, err := q.record(ctx, params)
	if err != nil || len(done) == 0 {
		return Written{}, err
	}
	return Written{Generation: done[0].Generation, Silenced: done[0].Silenced}, nil
}

func (r Recording) params() (params recordParams, err error) {
	params = recordParams{Generation: r.Generation, Term: r.Term, Epoch: r.Epoch, NewestEnvironment: r.NewestEnvironment, NotPending: r.NotPending, Forgotten: r.Forgotten}
	states := make([]stateRecord, len(r.States))
	for i, s := range r.States {
		states[i] = stateRecord{
			Provider: text(s.Provider), ProviderID: nonzero(s.ProviderID), Kind: text(s.Kind),
			EnvHash: text(s.EnvHash), DBHash: text(s.DBHash), Credentials: text(s.Credentials), AlertSeq: nonzero(s.AlertSeq), Silenced: s.Silenced,
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
	pending := make([]pendingRecord, len(r.Pending))
	for i, p := range r.Pending {
		if pending[i], err = p.record(); err != nil {
			return params, err
		}
	}
	alerts := make([]alertRecord, len(r.Alerts))
	for i, a := range r.Alerts {
		if alerts[i], err = a.record(); err != nil {
			return params, err
		}
	}
	if params.States, err = encode(states); err != nil {
		return params, err
	}
	if params.Bases, err = encodeBases(r.Bases); err != nil {
		return params, err
	}
	if params.Withdrawn, err = encode(withdrawn); err != nil {
		return params, err
	}
	if params.NotComparable, err = encode(reasons); err != nil {
		return params, err
	}
	if params.Pending, err = encode(pending); err != nil {
		return params, err
	}
	if params.Alerts, err = encode(alerts); err != nil {
		return params, err
	}
	err = r.encodeRows(&params)
	return params, err
}

func (a NewAlert) record() (alertRecord, error) {
	fields, err := json.Marshal(notNil(a.Fields))
	if err != nil {
		return alertRecord{}, fmt.Errorf("encode the fields of provider %q: %w", a.Provider, err)
	}
	r := alertRecord{
		Seq: a.Seq, ID: a.ID, Kind: text(a.Kind), Provider: text(a.Provider), ProviderID: nonzero(a.ProviderID), Fields: fields,
		EnvHash: text(a.EnvHash), DBHash: text(a.DBHash), Source: text(a.Source), DetectedAt: timestamp(a.DetectedAt),
		LSN: nullable(a.LSN), XID: nonzero(a.XID), Reason: text(a.Reason), Payload: text(a.Payload), SilencedPayload: text(a.SilencedPayload),
		Moved: text(a.Moved), How: text(a.How), Resolves: nonzero(a.Resolves), Repeats: nonzero(a.Repeats), Silenced: a.Silenced,
		RenamedTo: text(a.RenamedTo), Unmanaged: a.Unmanaged,
	}
	r.CommittedAt = timestampOf(a.CommittedAt)
	return r, nil
}

// rowRecord is an unmanaged row of the query record.
type rowRecord struct {
	ProviderID uuid.UUID `json:"provider_id"`
	Provider   text      `json:"provider"`
	Kind       text      `json:"kind"`
	DBHash     text      `json:"db_hash"`
	AlertSeq   *int64    `json:"alert_seq"`
	Silenced   *bool     `json:"silenced"`
}

// rowAcceptanceRecord is an acceptance of an unmanaged row, of the query record.
type rowAcceptanceRecord struct {
	ProviderID uuid.UUID  `json:"provider_id"`
	DBHash     text       `json:"db_hash"`
	ExpiresAt  *timestamp `json:"expires_at"`
	AcceptedAt *timestamp `json:"accepted_at"`
}

// encodeRows sets the parameters that are about unmanaged rows.
func (r Recording) encodeRows(params *recordParams) (err error) {
	rows := make([]rowRecord, len(r.Rows))
	for i, s := range r.Rows {
		rows[i] = rowRecord{
			ProviderID: s.ProviderID, Provider: text(s.Provider), Kind: text(s.Kind), DBHash: text(s.DBHash), AlertSeq: nonzero(s.AlertSeq), Silenced: s.Silenced,
		}
	}
	var named []rowRecord
	for id, name := range r.NamedBefore {
		named = append(named, rowRecord{ProviderID: id, Provider: text(name)})
	}
	var withdrawn []rowAcceptanceRecord
	for id, a := range r.WithdrawnRows {
		withdrawn = append(withdrawn, rowAcceptanceRecord{
			ProviderID: id, DBHash: text(a.DBHash), ExpiresAt: timestampOf(a.Expires), AcceptedAt: timestampOf(a.AcceptedAt),
		})
	}
	pending := make([]pendingRecord, len(r.PendingRows))
	for i, p := range r.PendingRows {
		if pending[i], err = p.record(); err != nil {
			return err
		}
	}
	params.ForgottenRows, params.NotPendingRows = r.ForgottenRows, r.NotPendingRows
	if params.Rows, err = encode(rows); err != nil {
		return err
	}
	if params.PendingRows, err = encode(pending); err != nil {
		return err
	}
	if params.NamedBefore, err = encode(named); err != nil {
		return err
	}
	params.WithdrawnRows, err = encode(withdrawn)
	return err
}
