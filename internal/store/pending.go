package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
)

// NamedPending is a pending drift of a provider, or of an unmanaged row of the name.
type NamedPending struct {
	Provider string
	drift.Pending
}

// pendingRecord is a pending drift of the query record.
type pendingRecord struct {
	Provider    text            `json:"provider"`
	ProviderID  *uuid.UUID      `json:"provider_id"`
	Kind        text            `json:"kind"`
	EnvHash     text            `json:"env_hash"`
	DBHash      text            `json:"db_hash"`
	Credentials text            `json:"credentials"`
	Fields      json.RawMessage `json:"fields"`
	Moved       text            `json:"moved"`
	RenamedTo   text            `json:"renamed_to"`
	Source      text            `json:"source"`
	LSN         *text           `json:"lsn"`
	XID         *int64          `json:"xid"`
	CommittedAt *timestamp      `json:"committed_at"`
	Since       timestamp       `json:"since"`
}

func (p NamedPending) record() (pendingRecord, error) {
	fields, err := json.Marshal(notNil(p.Fields))
	if err != nil {
		return pendingRecord{}, fmt.Errorf("encode the fields of provider %q: %w", p.Provider, err)
	}
	r := pendingRecord{
		Provider: text(p.Provider), ProviderID: nonzero(p.ProviderID), Kind: text(p.Kind), EnvHash: text(p.EnvHash), DBHash: text(p.DBHash),
		Credentials: text(p.Credentials), Fields: fields, Moved: text(p.Moved), Source: text(p.Shown.Source), Since: timestamp(p.Since),
		RenamedTo: text(p.RenamedTo), LSN: nullable(p.Shown.LSN), XID: nonzero(p.Shown.XID),
	}
	r.CommittedAt = timestampOf(p.Shown.CommittedAt)
	return r, nil
}

// pendingRowOf returns the pending drift of an unmanaged row, with its name, that a row of
// pending_rows holds as JSON, nil for none.
func pendingRowOf(row []byte) (*NamedPending, error) {
	if row == nil {
		return nil, nil
	}
	var named struct {
		Provider string `json:"provider"`
	}
	if err := json.Unmarshal(row, &named); err != nil {
		return nil, fmt.Errorf("decode a row of provwatch.pending_rows: %w", err)
	}
	p, err := pendingOf(row)
	if err != nil {
		return nil, err
	}
	p.Kind, p.Moved = drift.Unmanaged, drift.DatabaseMoved
	return &NamedPending{Provider: named.Provider, Pending: *p}, nil
}

// pendingOf returns the pending drift that a row of pending_drifts holds as JSON, nil for none.
func pendingOf(row []byte) (*drift.Pending, error) {
	if row == nil {
		return nil, nil
	}
	var r struct {
		ProviderID  *uuid.UUID    `json:"provider_id"`
		Kind        drift.Kind    `json:"kind"`
		EnvHash     string        `json:"env_hash"`
		DBHash      string        `json:"db_hash"`
		Credentials string        `json:"credentials"`
		Fields      []drift.Field `json:"fields"`
		Moved       drift.Moved   `json:"moved"`
		RenamedTo   string        `json:"renamed_to"`
		Source      string        `json:"source"`
		LSN         *string       `json:"lsn"`
		XID         *int64        `json:"xid"`
		CommittedAt *time.Time    `json:"committed_at"`
		Since       time.Time     `json:"since"`
	}
	if err := json.Unmarshal(row, &r); err != nil {
		return nil, fmt.Errorf("decode a row of provwatch.pending_drifts: %w", err)
	}
	return &drift.Pending{
		State:  drift.State{Kind: r.Kind, ProviderID: deref(r.ProviderID), EnvHash: r.EnvHash, DBHash: r.DBHash, Credentials: r.Credentials},
		Fields: r.Fields, Moved: r.Moved, RenamedTo: r.RenamedTo, Since: r.Since,
		Shown: drift.Evidence{Source: r.Source, LSN: deref(r.LSN), XID: deref(r.XID), CommittedAt: deref(r.CommittedAt)},
	}, nil
}
