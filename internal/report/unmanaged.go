package report

import (
	"time"

	"github.com/google/uuid"
	"github.com/jedib0t/go-pretty/v6/table"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/status"
)

// unmanagedRow is a [drift.UnmanagedRow] as JSON.
type unmanagedRow struct {
	Provider   string    `json:"provider"`
	ProviderID uuid.UUID `json:"provider_id"`
	// Alerted reports whether a worker has alerted it, and its drift lasts or was accepted.
	Alerted       bool          `json:"alerted"`
	Accepted      bool          `json:"accepted"`
	AcceptedUntil time.Time     `json:"accepted_until,omitzero"`
	Fields        []drift.Field `json:"fields"`
	DBHash        string        `json:"db_hash"`
	Keyed         bool          `json:"hash_keyed,omitempty"`
}

func unmanagedRowOf(u drift.UnmanagedRow) unmanagedRow {
	o := u.Observation
	row := unmanagedRow{
		Provider: o.Provider, ProviderID: o.ProviderID, Alerted: u.IsAlerted(), Accepted: u.IsAccepted(), Fields: o.Fields,
		DBHash: o.DBHash, Keyed: provider.IsKeyed(o.DBHash),
	}
	if row.Accepted {
		row.AcceptedUntil = u.AcceptedUntil()
	}
	return row
}

// unmanagedRow appends a row of the provider table that the environment does not name.
func (p *Printer) unmanagedRow(t table.Writer, u drift.UnmanagedRow) {
	label, cause, colors := status.UnmanagedLabel(false), "", faint
	switch {
	case u.IsAccepted():
		label = status.AcceptedLabel(drift.Unmanaged)
	case u.IsAlerted():
		label, cause, colors = status.UnmanagedLabel(true), drift.DatabaseMoved.Label(), yellow
	}
	p.rows(t, []string{cell(u.Observation.Provider), p.paint(colors, label), cause}, differences(drift.Unmanaged, u.Observation.Fields))
}

// UnmanagedDrifts returns how many of the rows were alerted and are not accepted, none where such rows are
// not alerted.
func UnmanagedDrifts(rows []drift.UnmanagedRow, mode drift.UnmanagedMode) (n int) {
	for _, u := range rows {
		if mode == drift.AlertUnmanaged && u.IsDrift() {
			n++
		}
	}
	return n
}
