package wal

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sourcegraph/conc/pool"
	"golang.org/x/time/rate"

	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/verify"
)

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
func (r *Reader) newHandler(from *streamState, waiting *backlog, activity *postgres.Activity, failures *failures) *handler {
	visibility := &visibilityTracker{pool: r.Pool}
	recorder := &recorder{verifier: r.Verifier, mirror: from.mirror, position: from.position}
	return &handler{
		backlog: waiting, pending: r.Pending, host: r.Host, metrics: r.Metrics, activity: activity, failures: failures,
		batcher: batcher{events: waiting.events, limiter: rate.NewLimiter(recordsPerSecond, recordBurst)},
		applier: &applier{
			pool: r.Pool, verifier: r.Verifier, mirror: from.mirror, position: from.position,
			recorder: recorder, confirmer: from.confirmer, visibility: visibility,
		},
		checker: &checker{
			pool: r.Pool, verifier: r.Verifier, mirror: from.mirror, position: from.position,
			recorder: recorder, confirmer: from.confirmer, visibility: visibility, disagreed: map[string]int{},
		},
	}
}
