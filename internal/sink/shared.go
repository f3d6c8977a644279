package sink

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// queryTimeout bounds each access to the database, the wait for a connection included.
const queryTimeout = 10 * time.Second

// shared is what the deliveries of a [Runner] share. It is not changed after the first has
// begun, and all of it is safe for concurrent use.
type shared struct {
	options   Options
	pool      *pgxpool.Pool
	logger    *slog.Logger
	metrics   Metrics
	publisher Publisher
	observer  Observer

	// connection lets the deliveries have one connection of the pool between them, so
	// that verification never waits for more than one of their queries.
	connection chan struct{}

	firstRetry, sendTimeout time.Duration
}

// query calls do with the connection that the deliveries share.
func (s *shared) query(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case s.connection <- struct{}{}:
	}
	defer func() { <-s.connection }()
	return do(ctx)
}

// seen reports how far alerts that are about to be sent have got: a restore can take them out of
// the database again, and the cursor with them.
func (s *shared) seen(events []Event) {
	for _, e := range events {
		if e.alert != nil {
			s.observer.AlertsSeen(e.alert.Epoch, e.Seq)
		}
	}
}
