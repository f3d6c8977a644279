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
	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// Metrics receives what a [Reader] measures. Its methods may be called by several
// goroutines.
type Metrics interface {
	SlotObserved(SlotStatus)
	TransactionsHandled(n int)
}

// Host is the worker that a [Reader] reads for.
type Host interface {
	// Publish ensures the publication.
	Publish(ctx context.Context) error
	// Streaming is called on a goroutine of its own each time that the stream has begun,
	// with a context that ends with it.
	Streaming(ctx context.Context)
	// Verified gets the result of each verification. It is not called by two goroutines at
	// a time.
	Verified(request verify.Request, err error)
}

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

// attempt is one replication connection, from its start to its failure. The reader's
// goroutine alone touches it.
type attempt struct {
	reader    *Reader
	failures  *failures
	retention *retention
	gap       string // why it must start with a new slot, empty once it has one
}

// run streams until something fails or ctx ends.
func (a *attempt) run(ctx context.Context, source pubsub.Source) error {
	r := a.reader
	found, server, err := inspect(ctx, r.Pool)
	if err != nil {
		return err
	}
	if err := r.Term.Confirm(ctx, r.Pool); err != nil {
		return err
	}
	conn, err := a.connect(ctx)
	if schema.IsDenied(err) {
		return mayNotReplicate(found)
	}
	if err != nil {
		return fmt.Errorf("open a replication connection: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	activity := postgres.ActivityOf(r.Config)
	begun, err := a.begin(ctx, &slot{server: server, pool: r.Pool, conn: conn, activity: activity, fallback: r.Fallback})
	if err != nil {
		return err
	}
	r.Logger.InfoContext(ctx, "streaming", "slot", server.Slot, "from", begun.position.applied.String())
	r.Pending.Add(verify.Everything(source))

	stream := &stream{conn: conn, activity: activity, decoder: decoder{keys: r.Keys}, backlog: newBacklog(), marks: begun.marks}
	handler := r.newHandler(begun, stream.backlog, activity, a.failures)
	monitor := &monitor{pool: r.Pool, term: r.Term, slot: server.Slot, retention: a.retention, marks: begun.marks}
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
func (a *attempt) connect(ctx context.Context) (*pgconn.PgConn, error) {
	config := a.reader.Config
	defer postgres.ActivityOf(config).Begin("the replication connection", 0)()
	limited, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	// Connecting changes the configuration.
	return pgconn.ConnectConfig(limited, config.Config.Copy())
}

// newHandler wires the parts that handle what a stream hands on.
func (r *Reader) newHandler(from *beginning, waiting *backlog, activity *postgres.Activity, failures *failures) *handler {
	unseen := &unseen{pool: r.Pool}
	recorder := &recorder{verifier: r.Verifier, mirror: from.mirror, position: from.position}
	return &handler{
		backlog: waiting, pending: r.Pending, host: r.Host, metrics: r.Metrics, activity: activity, failures: failures,
		batcher: batcher{events: waiting.events, limiter: rate.NewLimiter(recordsPerSecond, recordBurst)},
		applier: &applier{
			pool: r.Pool, verifier: r.Verifier, mirror: from.mirror, position: from.position,
			recorder: recorder, confirmer: from.confirmer, unseen: unseen,
		},
		checker: &checker{
			pool: r.Pool, verifier: r.Verifier, mirror: from.mirror, position: from.position,
			recorder: recorder, confirmer: from.confirmer, unseen: unseen, disagreed: map[string]int{},
		},
	}
}
