package status

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/sink"
	"provwatch/internal/store"
)

// latestReader reads the latest alerts and audit entries, or those before the query's.
type latestReader struct {
	queries *store.Queries
	query   Query
}

func (r latestReader) alerts(ctx context.Context, s *Status) error {
	most := limit(r.query.Alerts)
	rows, err := r.queries.ListAlertsBefore(ctx, store.ListAlertsBeforeParams{Before: before(r.query.AlertsBefore), MaxAlerts: int32(most) + 1})
	if err != nil {
		return err
	}
	if s.MoreAlerts = len(rows) > most; s.MoreAlerts {
		rows = rows[:most]
	}
	s.Alerts = []Alert{}
	for _, row := range rows {
		s.Alerts = append(s.Alerts, Alert{
			Seq: row.Seq, Kind: drift.Kind(row.Kind), Provider: row.Provider, Fields: fieldsOf(row.Fields),
			Source: pubsub.Source(row.Source), DetectedAt: row.DetectedAt.UTC(), CommittedAt: utc(row.CommittedAt),
			Epoch: row.Epoch, Reason: row.Reason, Certain: row.Certain,
		})
	}
	return nil
}

func (r latestReader) audit(ctx context.Context, s *Status) error {
	most := limit(r.query.Audit)
	rows, err := r.queries.ListAuditEntriesBefore(ctx, store.ListAuditEntriesBeforeParams{Before: before(r.query.AuditBefore), MaxEntries: int32(most) + 1})
	if err != nil {
		return err
	}
	if s.MoreAudit = len(rows) > most; s.MoreAudit {
		rows = rows[:most]
	}
	s.Audit = []AuditEntry{}
	for _, row := range rows {
		entry := AuditEntry{
			Seq: row.Seq, OccurredAt: row.OccurredAt.UTC(), Actor: row.Actor, Action: audit.Action(row.Action), Provider: row.Provider,
		}
		// The details of another version need not fit; the rest does.
		_ = json.Unmarshal(row.Details, &entry.Details)
		s.Audit = append(s.Audit, entry)
	}
	return nil
}

// collectSinks collects how far sinks are. What the server has against it is
// returned as unread, since it concerns nothing else: a role may lack the
// privileges, which came later than those for the rest, and counting what a sink
// did not get for a long time may take too long.
func (s *Status) collectSinks(ctx context.Context, tx pgx.Tx) (unread, err error) {
	s.Sinks, s.DeadLetters = []sink.Progress{}, []sink.DeadLetter{}
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		found, err := sink.InspectLatest(ctx, tx, MaxDeadLetters)
		if err == nil {
			s.Sinks, s.DeadLetters = found.Sinks, found.DeadLetters
		}
		return err
	})
	var absent *schema.UnusableError
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &absent):
		return nil, nil // and so there can be no sinks
	case errors.As(err, &pg):
		return err, nil
	default:
		return nil, err
	}
}

func fieldsOf(encoded []byte) []drift.Field {
	fields := []drift.Field{}
	// Anything else than what we have written there shows as no field.
	_ = json.Unmarshal(encoded, &fields)
	return fields
}
