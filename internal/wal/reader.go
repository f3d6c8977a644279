package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc/pool"
	"golang.org/x/time/rate"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/retry"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

const (
	// minBackOff is the wait after the first failed attempt in a row, before jitter.
	minBackOff = 50 * time.Millisecond
	// patience is how long attempts may fail before another source must be used.
	patience = 20 * time.Second
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
	// Otherwise is what the role is used for where the WAL is not the source.
	Otherwise schema.Use
	// Term is that of this worker's leadership.
	Term *leader.Term
}

// Run reads the WAL until ctx ends, or another worker has a newer environment, and streams again
// after every failure that may pass. It returns an [*UnusableError] when the slot cannot be used
// as the server is, and nil at the end. first is the source of the verification
// that the first stream begins with.
func (r *Reader) Run(ctx context.Context, first pubsub.Source) error {
	failures, opener := &failures{}, r.newOpener()
	source := first
	for attempt := range (retry.Policy{First: minBackOff, Max: r.MaxBackOff}).Attempts(ctx) {
		// A connection that fails is replaced. So is everything that the stream knows, from
		// what is stored: there is one way to start.
		err := r.stream(ctx, source, opener, failures)
		if ctx.Err() != nil || rollout.IsOlder(err) {
			return nil
		}
		source = pubsub.SourceResync
		if err := r.whyGiveUp(ctx, err, failures); err != nil {
			return err
		}
		if lost := asGap(err); lost != nil {
			r.Logger.WarnContext(ctx, "replication slot given up", "reason", lost.reason)
			opener.gap = lost.reason
		} else {
			r.Host.Verified(verify.Everything(source), err)
		}
		level := slog.LevelInfo
		if failures.next() {
			attempt.Reset()
			level = slog.LevelWarn
		}
		wait, _ := attempt.Failed()
		r.Logger.Log(ctx, level, "replication stream ended, starting it again", "error", err, "retry_in", wait)
	}
	return nil
}

func (r *Reader) newOpener() *opener {
	return &opener{
		pool: r.Pool, term: r.Term, verifier: r.Verifier, keys: r.Keys, host: r.Host, logger: r.Logger,
		retention: &retention{maxLag: r.MaxLag, logger: r.Logger, metrics: r.Metrics},
	}
}

// whyGiveUp returns why the WAL is given up after an attempt has failed, nil where the next
// attempt may succeed.
func (r *Reader) whyGiveUp(ctx context.Context, err error, failures *failures) error {
	full := asFull(err)
	switch {
	case postgres.IsConnectionLoss(err) && full == nil, isShort(err), pubsub.IsQueueFull(err),
		schema.IsDenied(err) && schema.CheckPrivileges(ctx, r.Pool, r.Otherwise) != nil:
		// Another source would do no better.
		failures.forgive()
	case failures.lastFor(patience) && r.Fallback:
		return &UnusableError{Reason: fmt.Sprintf("it has failed for %s", patience), Remedy: remedy.Advice{"see the log"}, Err: err}
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

// stream opens a stream on a connection of its own, and handles it until something fails or
// ctx ends. source is the source of the verification that it begins with.
func (r *Reader) stream(ctx context.Context, source pubsub.Source, opener *opener, failures *failures) error {
	found, server, err := inspect(ctx, r.Pool)
	if err != nil {
		return err
	}
	if err := r.Term.Confirm(ctx, r.Pool); err != nil {
		return err
	}
	conn, err := r.connect(ctx)
	if schema.IsDenied(err) {
		return mayNotReplicate(found)
	}
	if err != nil {
		return fmt.Errorf("open a replication connection: %w", err)
	}
	defer hangUp(conn)
	activity := postgres.ActivityOf(r.Config)
	begun, err := opener.open(ctx, &slot{server: server, pool: r.Pool, conn: conn, activity: activity, fallback: r.Fallback})
	if err != nil {
		return err
	}
	r.Logger.InfoContext(ctx, "streaming", "slot", server.Slot, "from", begun.position.applied.String())
	r.Pending.Add(verify.Everything(source))

	stream := &stream{conn: conn, activity: activity, decoder: decoder{keys: r.Keys}, backlog: newBacklog(), marks: begun.marks}
	handler := r.newHandler(begun, stream.backlog, activity, failures)
	monitor := &monitor{pool: r.Pool, term: r.Term, slot: server.Slot, retention: opener.retention, marks: begun.marks}
	group := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	group.Go(stream.receive)
	group.Go(handler.handle)
	group.Go(monitor.run)
	group.Go(func(ctx context.Context) error {
		r.Host.Streaming(ctx)
		return nil
	})
	err = group.Wait()
	stream.end()
	if request, ok := handler.checker.unfinished(); ok {
		r.Pending.Retry(request)
	}
	return err
}

// connect opens the replication connection.
func (r *Reader) connect(ctx context.Context) (*pgconn.PgConn, error) {
	defer postgres.ActivityOf(r.Config).Begin("the replication connection", 0)()
	limited, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	// Connecting changes the configuration.
	return pgconn.ConnectConfig(limited, r.Config.Config.Copy())
}

// newHandler wires the parts that handle what a stream hands on.
func (r *Reader) newHandler(from *streamState, waiting *backlog, activity *postgres.Activity, failures *failures) *handler {
	visibility := &visibilityTracker{pool: r.Pool}
	recorder := &recorder{verifier: r.Verifier, mirror: from.mirror, position: from.position}
	return &handler{
		backlog: waiting, pending: r.Pending, host: r.Host, metrics: r.Metrics, activity: activity, failures: failures,
		batcher: batcher{events: waiting.events, limiter: rate.NewLimiter(recordsPerSecond, recordBurst)},
		applier: &applier{
			pool: r.Pool, verifier: r.Verifier, mirror: from.mirror, position: from.position,
			recorder: recorder, confirmer: from.confirmer, visibility: visibility,
			environments: environmentFollower{verifier: r.Verifier, visibility: visibility},
		},
		checker: &checker{
			pool: r.Pool, verifier: r.Verifier, mirror: from.mirror, position: from.position,
			recorder: recorder, confirmer: from.confirmer, visibility: visibility, disagreed: map[drift.Subject]int{},
		},
	}
}
