package status

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/silence"
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
	alerts, err := r.queries.ListAlertsBefore(ctx, before(r.query.AlertsBefore), most+1)
	if err != nil {
		return err
	}
	if s.MoreAlerts = len(alerts) > most; s.MoreAlerts {
		alerts = alerts[:most]
	}
	s.Alerts = []Alert{}
	for _, a := range alerts {
		s.Alerts = append(s.Alerts, Alert{
			Seq: a.Seq, Kind: a.Kind, Provider: a.Provider, Fields: fieldsOf(a), Source: pubsub.Source(a.Source),
			DetectedAt: a.DetectedAt, CommittedAt: unlessZero(a.CommittedAt), Epoch: a.Epoch, Reason: a.Reason, Certain: a.Certain,
			Moved: a.Moved, How: a.How, Resolves: a.Resolves, RenamedTo: a.RenamedTo, Silenced: a.Silenced, Repeats: a.Repeats,
		})
	}
	return nil
}

// silences reads the silences that last, and sets until when the listed providers are silenced.
func (r latestReader) silences(ctx context.Context, db store.DBTX, s *Status) error {
	list, more, err := silence.List(ctx, db, false)
	if err != nil {
		return err
	}
	for i := range s.Providers {
		p := &s.Providers[i]
		for _, one := range list {
			if one.Matches(p.Name) && (p.SilencedUntil == nil || p.SilencedUntil.Before(one.Ends)) {
				p.SilencedUntil = &one.Ends
			}
		}
	}
	s.Silences, s.MoreSilences = list[:min(len(list), MaxPage)], more || len(list) > MaxPage
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
		s.Audit = append(s.Audit, AuditEntry{
			Seq: row.Seq, OccurredAt: row.OccurredAt.UTC(), Actor: row.Actor, Action: audit.Action(row.Action), Provider: row.Provider,
			Details: audit.DecodeDetails(row.Details),
		})
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

// fieldsOf returns the fields of an alert. Fields that cannot be decoded, which another
// version wrote, are left out.
func fieldsOf(alert store.StoredAlert) []drift.Field {
	if alert.Fields == nil {
		return []drift.Field{}
	}
	return alert.Fields
}
