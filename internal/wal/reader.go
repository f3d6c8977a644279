package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// Reader reads the WAL and records what it shows. Only the reader of the current leader
// does.
type Reader struct {
	Pool     *pgxpool.Pool
	Config   *pgx.ConnConfig // of the replication connection
	Verifier *verify.Verifier
	Keys     *dbcrypt.Ring // nil: encrypted settings cannot be decoded
	// Pending holds what else must be verified: resyncs, reloads, hints.
	Pending *verify.Queue
	// MaxLag is how many bytes of WAL the slot may retain before it is given up;
	// 0 means no limit.
	MaxLag int64
	// MaxBackOff bounds the wait between attempts to stream again, before jitter.
	MaxBackOff time.Duration
	Logger     *slog.Logger
	Metrics    Metrics
	Host       Host
	// Fallback makes Run give up, with an [*UnusableError], when nothing but
	// connecting has failed for [patience].
	Fallback bool
	// Term is that of this worker's leadership.
	Term *leader.Term
}

// Run reads the WAL until ctx ends, and streams again after every failure that
// may pass. It returns an [*UnusableError] when the slot cannot be used as the
// server is, and nil when ctx ends. first is the source of the verification
// that the first stream begins with.
func (r *Reader) Run(ctx context.Context, first pubsub.Source) error {
	failures := newFailures(r.MaxBackOff)
	retention := &retention{maxLag: r.MaxLag, logger: r.Logger, metrics: r.Metrics}
	gap := "" // why the next stream must start with a new slot
	source := first
	for {
		// A connection that fails is replaced. So is everything that the stream knows, from
		// what is stored: there is one way to start.
		attempt := attempt{reader: r, failures: failures, retention: retention, gap: gap}
		err := attempt.run(ctx, source)
		if ctx.Err() != nil {
			return nil
		}
		source = pubsub.SourceResync
		gap = attempt.gap
		if err := r.whyGiveUp(ctx, err, failures); err != nil {
			return err
		}
		if lost := asGap(err); lost != nil {
			r.Logger.WarnContext(ctx, "replication slot given up", "reason", lost.reason)
			gap = lost.reason
		} else {
			r.Host.Verified(verify.Everything(source), err)
		}
		wait, level := failures.next()
		r.Logger.Log(ctx, level, "replication stream ended, starting it again", "error", err, "retry_in", wait)
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// whyGiveUp returns why the WAL is given up after an attempt has failed, nil where the next
// attempt may succeed.
func (r *Reader) whyGiveUp(ctx context.Context, err error, failures *failures) error {
	full := asFull(err)
	switch {
	case postgres.IsConnectionLoss(err) && full == nil, isShort(err), pubsub.IsQueueFull(err),
		schema.IsDenied(err) && schema.CheckPrivileges(ctx, r.Pool, schema.Notifications) != nil:
		// Another source would do no better.
		failures.forgive()
	case failures.lastFor(patience) && r.Fallback:
		return &UnusableError{Reason: fmt.Sprintf("it has failed for %s; see the log", patience), Err: err}
	}
	if full != nil && (!r.Fallback || !r.mayHaveSlot(ctx)) {
		return full
	}
	if asGap(err) != nil {
		return nil
	}
	if unusable := asUnusable(err); unusable != nil {
		return unusable
	}
	if held := asHeld(err); held != nil && r.Fallback {
		return held
	}
	return nil
}

// mayHaveSlot reports whether there is, or may be, something to lose by giving the WAL up.
func (r *Reader) mayHaveSlot(ctx context.Context) bool {
	_, err := store.On(r.Pool).ReadWALPosition(ctx)
	return !errors.Is(err, pgx.ErrNoRows)
}
