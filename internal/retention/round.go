package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/store"
)

// round goes once through the tables, a page of each table a step. It belongs to one
// goroutine.
type round struct {
	pool     *pgxpool.Pool
	keep     time.Duration
	dryRun   bool
	pageSize int
	audited  *auditor // of the rows that a step deletes; nil for none

	at place
}

// place is how far a round has got.
type place struct {
	alerts, audit int64  // the seq up to which the table was read
	acceptances   string // the provider up to which it was read
	silences      int64  // the id up to which it was read

	noAlerts, noAudit, noAcceptances, noSilences bool // nothing that is old is left
}

func (p place) isEnd() bool { return p.noAlerts && p.noAudit && p.noAcceptances && p.noSilences }

// step prunes the next page of each table in one transaction, and reports whether there is
// more. A step that fails has changed nothing, and the next one repeats it.
func (r *round) step(ctx context.Context) (pruned Pruned, more bool, err error) {
	at := r.at
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		queries := store.On(tx)
		if r.audited != nil {
			// Staging needs it. Another session can hold it for longer than the other statements wait.
			if err := queries.LockSeed(ctx, store.SeedLock); err != nil {
				return fmt.Errorf("take the seed lock: %w", err)
			}
		}
		if err := queries.BeginPruning(ctx); err != nil {
			return err
		}
		for _, prune := range []func(context.Context, *store.Queries, *place, *Pruned) error{r.alerts, r.auditEntries, r.acceptances, r.silences} {
			if err := prune(ctx, queries, &at, &pruned); err != nil {
				return err
			}
		}
		if r.audited == nil || pruned.Rows() == 0 {
			return nil
		}
		return r.audited.stage(ctx, tx, pruned)
	})
	if err != nil {
		return Pruned{}, true, err
	}
	r.at = at
	return pruned, !at.isEnd(), nil
}

func (r *round) alerts(ctx context.Context, queries *store.Queries, at *place, pruned *Pruned) error {
	if at.noAlerts {
		return nil
	}
	row, err := queries.PruneAlerts(ctx, store.PruneAlertsParams{
		DryRun: r.dryRun, Now: time.Now(), KeepSeconds: r.keep.Seconds(), After: at.alerts, MaxRows: int32(r.pageSize),
	})
	if err != nil {
		return fmt.Errorf("delete old rows of provwatch.drift_alerts: %w", err)
	}
	at.alerts, at.noAlerts = row.ReadUpTo, row.IsEnd
	pruned.Alerts, pruned.AlertsUpTo = row.Pruned, row.PrunedUpTo
	return nil
}

func (r *round) auditEntries(ctx context.Context, queries *store.Queries, at *place, pruned *Pruned) error {
	if at.noAudit {
		return nil
	}
	row, err := queries.PruneAuditEntries(ctx, store.PruneAuditEntriesParams{
		DryRun: r.dryRun, Now: time.Now(), KeepSeconds: r.keep.Seconds(), After: at.audit, MaxRows: int32(r.pageSize),
	})
	if err != nil {
		return fmt.Errorf("delete old rows of provwatch.audit_log: %w", err)
	}
	at.audit, at.noAudit = row.ReadUpTo, row.IsEnd
	pruned.AuditEntries, pruned.AuditUpTo = row.Pruned, row.PrunedUpTo
	return nil
}

// acceptances records which acceptances have lapsed, and deletes the acceptances that lapsed
// long enough ago. An acceptance whose environment is back holds again.
func (r *round) acceptances(ctx context.Context, queries *store.Queries, at *place, pruned *Pruned) error {
	if at.noAcceptances {
		return nil
	}
	page, err := queries.ListKeptAcceptances(ctx, at.acceptances, time.Now(), r.keep, r.pageSize)
	if err != nil {
		return fmt.Errorf("read provwatch.accepted_drift: %w", err)
	}
	at.noAcceptances = len(page) < r.pageSize
	var lapsed, held, over []store.NamedAcceptance
	for _, a := range page {
		at.acceptances = a.Provider
		switch holds := a.Recorded.IsAccepted(); {
		case holds && a.Lapsed:
			held = append(held, a.NamedAcceptance)
		case !holds && !a.Lapsed:
			lapsed = append(lapsed, a.NamedAcceptance)
		case !holds && a.IsOld:
			over = append(over, a.NamedAcceptance)
		}
	}
	if r.dryRun {
		pruned.Acceptances = int64(len(over))
		return nil
	}
	if err := queries.MarkAcceptances(ctx, lapsed, true); err != nil {
		return fmt.Errorf("mark rows of provwatch.accepted_drift: %w", err)
	}
	if err := queries.MarkAcceptances(ctx, held, false); err != nil {
		return fmt.Errorf("mark rows of provwatch.accepted_drift: %w", err)
	}
	if pruned.Acceptances, err = queries.PruneAcceptances(ctx, over); err != nil {
		return fmt.Errorf("delete rows of provwatch.accepted_drift: %w", err)
	}
	return nil
}

func (r *round) silences(ctx context.Context, queries *store.Queries, at *place, pruned *Pruned) error {
	if at.noSilences {
		return nil
	}
	row, err := queries.PruneSilences(ctx, store.PruneSilencesParams{
		DryRun: r.dryRun, Now: time.Now(), KeepSeconds: r.keep.Seconds(), After: at.silences, MaxRows: int32(r.pageSize),
	})
	if err != nil {
		return fmt.Errorf("delete old rows of provwatch.silences: %w", err)
	}
	at.silences, at.noSilences, pruned.Silences = row.ReadUpTo, row.IsEnd, row.Pruned
	return nil
}
