package sink

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// Metrics receives what a [Runner] measures.
type Metrics interface {
	SinkConfigured(sink, stream string)
	SinkDelivered(sink, stream string)
	SinkFailed(sink, stream string)
	SinkDeadLetter(sink, stream string)
	SinkGap(sink, stream string)
	SinkLag(sink, stream string, events int64)
	// SinkStored reports a change of what [Inspect] returns.
	SinkStored(sink, stream string)
}

// Runner feeds sinks.
type Runner struct {
	options    Options
	pool       *pgxpool.Pool
	logger     *slog.Logger
	metrics    Metrics
	deliveries []*delivery

	// connection lets the deliveries have one connection of the pool between them, so
	// that verification never waits for more than one of their queries.
	connection chan struct{}
	publisher  Publisher

	firstRetry, sendTimeout time.Duration
}

// Term is a time in which this worker leads.
type Term interface {
	// Confirm fails when another worker may lead by now.
	Confirm(ctx context.Context, db store.DBTX) error
}

// Publisher publishes the events of this worker.
type Publisher interface {
	// PublishIn publishes an event when the transaction db commits.
	PublishIn(ctx context.Context, db store.DBTX, event pubsub.Event, reason string) error
}

// NewRunner returns a runner of sinks that [Register] knows. It publishes each event that a
// sink does not get.
func NewRunner(pool *pgxpool.Pool, options Options, logger *slog.Logger, metrics Metrics, publisher Publisher) *Runner {
	r := &Runner{
		options: options, pool: pool, logger: logger, metrics: metrics, publisher: publisher,
		connection: make(chan struct{}, 1), firstRetry: firstRetry, sendTimeout: sendTimeout,
	}
	for _, s := range options.Sinks {
		for _, stream := range s.Streams() {
			r.deliveries = append(r.deliveries, newDelivery(r, s, stream))
			metrics.SinkConfigured(s.Name(), string(stream))
		}
	}
	return r
}

// Register makes the cursors of sinks that are new: at the end of the streams,
// unless they are to begin at the start. It is called before the seed, so that
// what the seed writes is delivered.
func Register(ctx context.Context, db store.DBTX, o Options) error {
	for _, s := range o.Sinks {
		for _, stream := range s.Streams() {
			if err := register(ctx, db, o, s, stream); err != nil {
				return err
			}
		}
	}
	return nil
}

func register(ctx context.Context, db store.DBTX, o Options, s Sink, stream Stream) error {
	err := store.On(db).RegisterSink(ctx, store.RegisterSinkParams{Sink: s.Name(), Stream: string(stream), FromStart: o.FromStart})
	if err != nil {
		return fmt.Errorf("register sink %s: %w", s.Name(), err)
	}
	return nil
}

// ClusterName returns the default name of a database: its own name and the server's
// system identifier.
func ClusterName(ctx context.Context, db store.DBTX) (string, error) {
	system, err := store.On(db).DescribeSystem(ctx)
	if err != nil {
		return "", fmt.Errorf("name the database for sinks: %w; set --cluster-name", err)
	}
	return fmt.Sprintf("%s-%d", system.Database, system.SystemIdentifier), nil
}

// Wake lets the deliveries of a stream look for new events. It never blocks.
func (r *Runner) Wake(stream Stream) {
	for _, d := range r.deliveries {
		if d.stream == stream {
			prompt(d.wake)
		}
	}
}

// Attend lets the deliveries look for dead letters to retry. It never blocks.
func (r *Runner) Attend() {
	for _, d := range r.deliveries {
		prompt(d.attention)
	}
}

func prompt(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends, which must end with the term: first the events that are
// there, then new ones at each Wake. It confirms the term before it sends after a while.
func (r *Runner) Run(ctx context.Context, term Term) {
	var group conc.WaitGroup
	for _, d := range r.deliveries {
		d.term = term
		group.Go(func() { d.run(ctx) })
	}
	group.Wait()
	for _, s := range r.options.Sinks {
		s.Close()
	}
}

// query calls do with the connection that the deliveries share.
func (r *Runner) query(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case r.connection <- struct{}{}:
	}
	defer func() { <-r.connection }()
	return do(ctx)
}

// queryTimeout bounds each access to the database, the wait for a connection
// included.
const queryTimeout = 10 * time.Second
