package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// publisher publishes the events of this worker. Several goroutines call its methods.
type publisher struct {
	pool       *pgxpool.Pool
	worker     uuid.UUID
	version    string
	verifier   *verify.Verifier
	leadership *leadership
	logger     *slog.Logger
}

// publish publishes an event. It is news, not state: after a lost connection it is sent once
// more, and can arrive twice; a failure is logged. A publish that a stop interrupts is no
// failure: the stop is an event of its own.
func (p *publisher) publish(ctx context.Context, event pubsub.Event, reason string) {
	payload := p.status(event, reason).Payload()
	err := pubsub.Publish(ctx, p.pool, pubsub.Statuses, payload)
	if postgres.IsConnectionLoss(err) {
		// The other connections can be lost as well, which the pool does not check while
		// they are new.
		p.pool.Reset()
		err = pubsub.Publish(ctx, p.pool, pubsub.Statuses, payload)
	}
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		p.logger.WarnContext(ctx, "status not published", "event", string(event), "error", err)
	}
}

// PublishIn implements [sink.Publisher]: it publishes an event when the transaction db
// commits.
func (p *publisher) PublishIn(ctx context.Context, db store.DBTX, event pubsub.Event, reason string) error {
	return pubsub.Publish(ctx, db, pubsub.Statuses, p.status(event, reason).Payload())
}

func (p *publisher) status(event pubsub.Event, reason string) pubsub.Status {
	return pubsub.Status{
		Event: event, Worker: p.worker, Version: p.version, Providers: p.verifier.Providers(), At: time.Now(), Reason: reason,
		Source: string(p.leadership.currentSource()),
	}
}
