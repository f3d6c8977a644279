package retention

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/remedy"
	"provwatch/internal/retry"
	"provwatch/internal/store"
)

const (
	// runnerPause is the wait of a [Runner] between two transactions: what a worker prunes
	// takes a small part of its time, and of the server's.
	runnerPause = time.Second
	// rounds is how many rounds there are in the time for which rows are kept, as far as
	// minInterval and maxInterval let it.
	rounds      = 100
	minInterval = time.Second
	maxInterval = time.Hour
)

// The tables that are pruned, as [Metrics] names them.
const (
	alertsTable      = "drift_alerts"
	auditTable       = "audit_log"
	acceptancesTable = "accepted_drift"
	silencesTable    = "silences"
)

// Tables are the tables of [Metrics].
var Tables = []string{alertsTable, auditTable, acceptancesTable, silencesTable}

// Term is a time in which this worker leads.
type Term interface {
	// Confirm fails when another worker may lead by now.
	Confirm(ctx context.Context, db store.DBTX) error
}

// Metrics receives what a [Runner] measures.
type Metrics interface {
	// RowsPruned adds rows that were deleted from a table.
	RowsPruned(table string, rows int64)
}

// Host is the worker that a [Runner] prunes for.
type Host interface {
	// RoundEnded gets the error of each round, nil where it has succeeded. It is called on
	// the goroutine of Run.
	RoundEnded(ctx context.Context, err error)
}

// Runner prunes while its worker leads. One goroutine uses it.
type Runner struct {
	database *pgxpool.Config // of the connection of a round
	keep     time.Duration   // 0 for ever
	logger   *slog.Logger
	metrics  Metrics
	host     Host

	pageSize        int
	pause, interval time.Duration

	holders []Holder // that were last logged
}

// NewRunner returns a runner that prunes rows that are older than keep, and none where that
// is zero. Each round has a connection of its own.
func NewRunner(database *pgxpool.Config, keep time.Duration, logger *slog.Logger, metrics Metrics, host Host) *Runner {
	return &Runner{
		database: database, keep: keep, logger: logger, metrics: metrics, host: host,
		pageSize: pageSize, pause: runnerPause, interval: min(max(keep/rounds, minInterval), maxInterval),
	}
}

// Run prunes until ctx ends, which must end with the term. It confirms the term before each
// transaction. No alert depends on it: a round that fails is logged and retried.
func (r *Runner) Run(ctx context.Context, term Term) {
	if r.keep == 0 {
		return
	}
	for attempt := range (retry.Policy{}).Attempts(ctx) {
		pruned, err := r.prune(ctx, term)
		if pruned.Rows() > 0 {
			r.logger.InfoContext(ctx, "old rows pruned", "older_than", r.keep, "alerts", pruned.Alerts, "alerts_up_to", pruned.AlertsUpTo,
				"audit_entries", pruned.AuditEntries, "audit_up_to", pruned.AuditUpTo, "acceptances", pruned.Acceptances, "silences", pruned.Silences)
		}
		if ctx.Err() != nil {
			return
		}
		r.host.RoundEnded(ctx, err)
		if err != nil {
			again, _ := attempt.Failed()
			r.logger.WarnContext(ctx, "old rows not pruned, retrying", "error", err, "retry_in", again)
			continue
		}
		if retry.Sleep(ctx, r.interval) != nil {
			return
		}
	}
}

// prune is one round.
func (r *Runner) prune(ctx context.Context, term Term) (all Pruned, err error) {
	pool, err := pgxpool.NewWithConfig(ctx, postgres.PruningConfig(r.database))
	if err != nil {
		return Pruned{}, fmt.Errorf("connect: %w", err)
	}
	defer pool.Close()
	current := round{pool: pool, keep: r.keep, pageSize: r.pageSize}
	for more := true; more; {
		if err := term.Confirm(ctx, pool); err != nil {
			return all, err
		}
		var pruned Pruned
		if pruned, more, err = current.step(ctx); err != nil {
			return all, err
		}
		all.add(pruned)
		r.measure(pruned)
		if more {
			if err := retry.Sleep(ctx, r.pause); err != nil {
				return all, err
			}
		}
	}
	return all, r.logHolders(ctx, pool)
}

func (r *Runner) measure(pruned Pruned) {
	r.metrics.RowsPruned(alertsTable, pruned.Alerts)
	r.metrics.RowsPruned(auditTable, pruned.AuditEntries)
	r.metrics.RowsPruned(acceptancesTable, pruned.Acceptances)
	r.metrics.RowsPruned(silencesTable, pruned.Silences)
}

// logHolders logs, once for each seq, the sinks that keep old rows.
func (r *Runner) logHolders(ctx context.Context, db store.DBTX) error {
	found, err := holders(ctx, db, r.keep)
	if err != nil {
		return err
	}
	for _, h := range found {
		if !slices.Contains(r.holders, h) {
			r.logger.WarnContext(ctx, "old rows stay: a sink has not had them", "sink", h.Sink, "stream", h.Stream, "after_seq", h.Seq,
				"remedy", remedy.Run("sinks list"))
		}
	}
	r.holders = found
	return nil
}
