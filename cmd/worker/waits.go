package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/lockwait"
)

const (
	// waitPatience is how long a statement of a command may wait for another session until
	// that is reported. It is less than a migration waits for a lock at a time.
	waitPatience = 3 * time.Second
	// handOverTimeout bounds what a command asks once its own work is committed.
	handOverTimeout = 5 * time.Second
	// olderTimeout bounds the query for a worker with a newer environment.
	olderTimeout = 5 * time.Second
)

// warnOfWaits logs each long wait of a command that goes on waiting, until the caller
// calls stop.
func warnOfWaits(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) (stop func()) {
	watching, cancel := context.WithCancel(ctx)
	var watch conc.WaitGroup
	watch.Go(func() {
		for late := range lockwait.NewMonitor(pool.Config(), waitPatience).Held(watching) {
			logger.WarnContext(ctx, "the command waits for another session", "error", late)
		}
	})
	return func() {
		cancel()
		watch.Wait()
	}
}

// reading runs the part of a command that only reads, which fails with a
// [*lockwait.LateError] when one of its statements waits for another session for long.
func reading(ctx context.Context, pool *pgxpool.Pool, do func(context.Context) error) error {
	limited, cancel := context.WithCancelCause(ctx)
	var watch conc.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	watch.Go(func() {
		for late := range lockwait.NewMonitor(pool.Config(), waitPatience).Held(limited) {
			cancel(late)
		}
	})
	err := do(limited)
	var late *lockwait.LateError
	if err != nil && errors.As(context.Cause(limited), &late) {
		return fmt.Errorf("the database cannot be read now: %w", late)
	}
	return err
}
