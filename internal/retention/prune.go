package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/retry"
)

// commandPause is the wait of [Prune] between two transactions.
const commandPause = 50 * time.Millisecond

// Request is what [Prune] must do.
type Request struct {
	// OlderThan is how old a row must be.
	OlderThan time.Duration
	// DryRun counts the rows that would be deleted, and deletes none.
	DryRun bool
	// Actor is the actor of the audit entries.
	Actor string
}

// Report is what [Prune] has done.
type Report struct {
	Pruned
	Holders []Holder // sinks that keep old rows
}

// Prune deletes the rows that are old enough for the request. Each transaction that deletes
// stages the audit entry of its rows.
func Prune(ctx context.Context, pool *pgxpool.Pool, request Request) (report Report, err error) {
	r := round{pool: pool, keep: request.OlderThan, dryRun: request.DryRun, pageSize: pageSize}
	if !request.DryRun {
		r.audited = &auditor{request.Actor, request.OlderThan}
	}
	for more := true; more; {
		var pruned Pruned
		if pruned, more, err = r.step(ctx); err == nil && more {
			err = retry.Sleep(ctx, commandPause)
		}
		report.add(pruned)
		if err != nil {
			return report, fmt.Errorf("prune, after %d rows: %w", report.Rows(), err)
		}
	}
	report.Holders, err = holders(ctx, pool, request.OlderThan)
	return report, err
}
