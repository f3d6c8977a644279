package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
)

// StoredAlert is an alert as it was recorded.
type StoredAlert struct {
	Alert
	Source   string
	Epoch    uuid.UUID
	Certain  *bool // of a rewind alone
	Silenced bool  // no sink gets it
	// Err is why the fields cannot be decoded, nil if they can.
	Err error
}

// ListAlertsSince returns the alerts with a seq above the one given, in order, at most so
// many.
func (q *Queries) ListAlertsSince(ctx context.Context, seq int64, most int) ([]StoredAlert, error) {
	rows, err := q.listAlertsSince(ctx, listAlertsSinceParams{Seq: seq, MaxAlerts: int32(most)})
	if err != nil {
		return nil, err
	}
	return alertsOf(rows), nil
}

// ListFiring returns the last alert of each provider that drifts, or whose drift ended by an
// alert above seq. Where the alert is above seq, the provider's last one up to seq precedes
// it. Gaps that are not older than notBefore are included. Silenced alerts do not count.
func (q *Queries) ListFiring(ctx context.Context, seq int64, notBefore time.Time) ([]StoredAlert, error) {
	rows, err := q.listFiring(ctx, listFiringParams{Seq: seq, NotBefore: notBefore})
	if err != nil {
		return nil, err
	}
	return alertsOf(rows), nil
}

// ListAlertsBefore returns the latest alerts below a seq, the latest first, at most so many.
func (q *Queries) ListAlertsBefore(ctx context.Context, seq int64, most int) ([]StoredAlert, error) {
	rows, err := q.listAlertsBefore(ctx, listAlertsBeforeParams{Before: seq, MaxAlerts: int32(most)})
	if err != nil {
		return nil, err
	}
	return alertsOf(rows), nil
}

// ListLatestDrifts returns the latest alert of a drift of each provider named that has one.
func (q *Queries) ListLatestDrifts(ctx context.Context, names []string) ([]StoredAlert, error) {
	rows, err := q.listLatestDrifts(ctx, names)
	if err != nil {
		return nil, err
	}
	return alertsOf(rows), nil
}

// alertsOf returns the alerts of rows that have all of their columns.
func alertsOf[Row listAlertsSinceRow | listFiringRow | listAlertsBeforeRow | listLatestDriftsRow](rows []Row) []StoredAlert {
	alerts := make([]StoredAlert, len(rows))
	for i, row := range rows {
		alerts[i] = listAlertsSinceRow(row).alert()
	}
	return alerts
}

func (row listAlertsSinceRow) alert() StoredAlert {
	a := StoredAlert{
		Alert: Alert{
			Seq: row.Seq, ID: row.ID, Kind: drift.Kind(row.Kind), Provider: row.Provider, ProviderID: deref(row.ProviderID),
			EnvHash: row.EnvHash, DBHash: row.DbHash, DetectedAt: row.DetectedAt.UTC(), Reason: row.Reason,
			Moved: drift.Moved(row.Moved), How: drift.How(row.How), Resolves: row.Resolves, RenamedTo: row.RenamedTo,
			Unmanaged: row.Unmanaged, Repeats: row.Repeats,
		},
		Source: row.Source, Epoch: row.Epoch, Certain: row.Certain, Silenced: row.Silenced,
	}
	if row.Lsn != "" && row.CommittedAt != nil {
		a.LSN, a.XID, a.CommittedAt = row.Lsn, row.Xid, row.CommittedAt.UTC()
	}
	if err := json.Unmarshal(row.Fields, &a.Fields); err != nil {
		a.Err = fmt.Errorf("decode the fields of alert %d: %w", row.Seq, err)
	}
	return a
}
