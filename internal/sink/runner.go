package sink

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/store"
)

// Runner feeds sinks.
type Runner struct {
	shared     *shared
	deliveries []*delivery
}

// NewRunner returns a runner of sinks that [Register] knows. It publishes each event that a
// sink does not get.
func NewRunner(pool *pgxpool.Pool, options Options, logger *slog.Logger, metrics Metrics, publisher Publisher, observer Observer) *Runner {
	r := &Runner{shared: &shared{
		options: options, pool: pool, logger: logger, metrics: metrics, publisher: publisher, observer: observer,
		connection: make(chan struct{}, 1), firstRetry: firstRetry, sendTimeout: sendTimeout,
	}}
	for _, s := range options.Sinks {
		for _, stream := range s.Streams() {
			r.deliveries = append(r.deliveries, newDelivery(r.shared, s, stream))
			metrics.SinkConfigured(s.Name(), string(stream))
		}
	}
	return r
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

// Run delivers until ctx ends, which must end with the term: first the events that are
// there, then new ones at each Wake. It confirms the term before it sends after a while.
func (r *Runner) Run(ctx context.Context, term Term) {
	var group conc.WaitGroup
	for _, d := range r.deliveries {
		d.term = term
		group.Go(func() { d.run(ctx) })
	}
	group.Wait()
	for _, s := range r.shared.options.Sinks {
		s.Close()
	}
}
