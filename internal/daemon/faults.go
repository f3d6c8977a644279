package daemon

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/schema"
)

// faults reacts to the errors that the database returns. Several goroutines call its
// methods.
type faults struct {
	pool       *pgxpool.Pool
	privileges *privileges
	queue      *notifyQueue
	// restart ends the run, nil where no supervisor starts the next one.
	restart context.CancelCauseFunc
}

// Delivered implements [audit.Host].
func (f *faults) Delivered(ctx context.Context, err error) { f.react(ctx, err) }

// RoundEnded implements [retention.Host].
func (f *faults) RoundEnded(ctx context.Context, err error) { f.react(ctx, err) }

// react does what the worker can do about the error of a call, nil for a call that has
// succeeded.
func (f *faults) react(ctx context.Context, err error) {
	f.privileges.react(ctx, err)
	f.queue.react(ctx, err)
	// The database was dropped and made again: only the boot migrates and seeds it.
	if f.restart != nil && schema.IsGone(ctx, f.pool, err) {
		f.restart(fmt.Errorf("the database no longer has the schema provwatch: %w", err))
	}
}
