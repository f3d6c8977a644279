package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
)

const (
	// waitPatience is how long a statement of a command may wait for another session until
	// that is reported. It is less than a migration waits for a lock at a time.
	waitPatience = 3 * time.Second
	// waitPause is how often it is looked for such a statement.
	waitPause = 200 * time.Millisecond
	// holderPause is how often it is looked for who holds one up.
	holderPause = time.Second
	// sameWait is for how long a wait that is over counts as the same when it begins again.
	sameWait = time.Minute
	// handOverTimeout bounds what a command asks once its own work is committed.
	handOverTimeout = 5 * time.Second
)

// watchWaits calls report when a statement of the pool's sessions has waited for another
// session for long, once for each reason, until the caller calls stop.
func watchWaits(ctx context.Context, pool *pgxpool.Pool, report func(*lockwait.LateError)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		config := pool.Config()
		activity := postgres.ActivityOf(config.ConnConfig)
		seen := map[string]time.Time{} // when each reason was last found
		ticks := time.NewTicker(waitPause)
		defer ticks.Stop()
		var lookedAt time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
			}
			now := time.Now()
			wait, found := activity.Oldest(now, waitPatience)
			if !found || wait.PID == 0 || now.Sub(lookedAt) < holderPause {
				continue
			}
			lookedAt = now
			late := lockwait.Late(wait)
			var err error
			if late.Holders, err = lockwait.Lookup(ctx, config, wait.PID); err != nil || len(late.Holders) == 0 || ctx.Err() != nil {
				continue // it lasts, and who holds it up is not known, if anybody does
			}
			before, again := seen[late.Matter()]
			seen[late.Matter()] = now
			if !again || now.Sub(before) > sameWait {
				report(late)
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// warnOfWaits logs each long wait of a command that goes on waiting, until the caller
// calls stop.
func warnOfWaits(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) (stop func()) {
	return watchWaits(ctx, pool, func(late *lockwait.LateError) {
		logger.WarnContext(ctx, "the command waits for another session", "error", late)
	})
}

// reading runs the part of a command that only reads, which fails with a
// [*lockwait.LateError] when one of its statements waits for another session for long.
func reading(ctx context.Context, pool *pgxpool.Pool, do func(context.Context) error) error {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := watchWaits(ctx, pool, func(late *lockwait.LateError) { cancel(late) })
	defer stop()
	err := do(limited)
	var late *lockwait.LateError
	if err != nil && errors.As(context.Cause(limited), &late) {
		return fmt.Errorf("the database cannot be read now: %w", late)
	}
	return err
}
