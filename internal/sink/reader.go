package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// A reader reads the events of one stream from its table. It keeps no position.
type reader struct {
	pool    *pgxpool.Pool
	stream  Stream
	cluster string // in every event
}

// end returns the seq of the stream's last event, whether or not its row still exists. All
// events up to it are committed.
func (r *reader) end(ctx context.Context) (last int64, err error) {
	if r.stream == Audit {
		last, err = store.On(r.pool).ReadAuditCounter(ctx)
	} else {
		last, err = store.On(r.pool).ReadAlertCounter(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("read the last seq of %s: %w", r.stream, err)
	}
	return last, nil
}

// pruned returns the seq of the stream's last event that was pruned, 0 for none.
func (r *reader) pruned(ctx context.Context) (int64, error) {
	seq, err := store.On(r.pool).ReadPruned(ctx, string(r.stream))
	if err != nil {
		return 0, fmt.Errorf("read provwatch.pruned: %w", err)
	}
	return seq, nil
}

// list returns at most limit events after a position and up to the seq last, in order. No
// worker has written a row with a higher seq.
func (r *reader) list(ctx context.Context, from position, last int64, limit int) ([]Event, error) {
	if r.stream == Audit {
		return r.listAudit(ctx, from, last, limit)
	}
	alerts, err := store.On(r.pool).ListAlertsSince(ctx, from.seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read provwatch.drift_alerts: %w", err)
	}
	var events []Event
	for _, alert := range alerts {
		if alert.Seq <= last {
			events = append(events, r.event(alert))
		}
	}
	return events, nil
}

func (r *reader) listAudit(ctx context.Context, from position, last int64, limit int) ([]Event, error) {
	rows, err := store.On(r.pool).ListAuditEntriesSince(ctx, store.ListAuditEntriesSinceParams{
		Seq: from.seq, ID: from.id, LastSeq: last, MaxEntries: int32(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("read provwatch.audit_log: %w", err)
	}
	events := make([]Event, len(rows))
	for i, row := range rows {
		entry := pubsub.AuditEntry{
			ID: row.ID, Actor: row.Actor, Action: row.Action, Provider: row.Provider, ProviderID: row.ProviderID,
			Details: row.Details, OccurredAt: row.OccurredAt,
		}
		events[i] = Event{
			Stream: Audit, Seq: row.Seq, ID: row.ID, Provider: row.Provider, Time: row.OccurredAt.UTC(), Cluster: r.cluster,
			Data: json.RawMessage(entry.Whole()),
		}
	}
	return events, nil
}

// find returns the event of a seq and an id, nil when its row was deleted.
func (r *reader) find(ctx context.Context, seq int64, id uuid.UUID) (*Event, error) {
	events, err := r.list(ctx, after(seq-1), seq, window)
	at := slices.IndexFunc(events, func(e Event) bool { return e.ID == id })
	if err != nil || at < 0 {
		return nil, err
	}
	return &events[at], nil
}

// firing returns the last alert of each provider that drifts, or whose drift ended by an
// alert above seq. Where the alert is above seq, the provider's last one up to seq precedes
// it. Recent gaps are included.
func (r *reader) firing(ctx context.Context, seq int64) ([]Event, error) {
	alerts, err := store.On(r.pool).ListFiring(ctx, seq, time.Now().Add(-gapFiresFor))
	if err != nil {
		return nil, fmt.Errorf("read what drifts: %w", err)
	}
	events := make([]Event, len(alerts))
	for i, alert := range alerts {
		events[i] = r.event(alert)
	}
	return events, nil
}

func (r *reader) event(stored store.StoredAlert) Event {
	alert := pubsub.NewDriftAlert(stored)
	return Event{
		Stream: Drift, Seq: stored.Seq, ID: stored.ID, Provider: stored.Provider, Time: stored.DetectedAt, Cluster: r.cluster,
		Data: json.RawMessage(alert.Whole()), alert: &alert, unusable: stored.Err,
	}
}
