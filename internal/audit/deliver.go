package audit

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// DeliveryLock is the id of the advisory lock under which entries are
// delivered, one worker at a time: the ASCII bytes "pwdelivr".
const DeliveryLock int64 = 0x707764656c697672

// batchSize is how many entries are delivered at a time.
const batchSize = 1000

// Outbox describes the entries that wait for delivery.
type Outbox struct {
	Depth  int64
	Oldest time.Time // when the oldest entry was staged; zero when there is none
}

// Metrics receives what a [Deliverer] measures.
type Metrics interface {
	OutboxObserved(Outbox)
	EntriesDelivered(n int)
}

// Deliverer moves entries from the outbox to provwatch.audit_log, and publishes
// each on the audit channel as it enters the log.
//
// An entry is delivered in one transaction and acknowledged (removed from the
// outbox) in the next. A kill in between repeats the delivery, which the log's
// primary key makes harmless: the log and the channel get every entry exactly
// once.
type Deliverer struct {
	pool    *pgxpool.Pool
	logger  *slog.Logger
	metrics Metrics
	wake    chan struct{}
}

// NewDeliverer returns a deliverer. metrics may be nil.
func NewDeliverer(pool *pgxpool.Pool, logger *slog.Logger, metrics Metrics) *Deliverer {
	return &Deliverer{pool: pool, logger: logger, metrics: metrics, wake: make(chan struct{}, 1)}
}

// Wake asks a running [Deliverer.Run] to look at the outbox. It never blocks.
func (d *Deliverer) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run delivers at each Wake until ctx ends. A delivery that fails is tried
// again with backoff, without limit. done is called after each, with its error.
func (d *Deliverer) Run(ctx context.Context, done func(error)) {
	retry := backoff.NewExponentialBackOff()
	for {
		var again <-chan time.Time
		err := d.Deliver(ctx)
		if ctx.Err() != nil {
			return
		}
		done(err)
		if err != nil {
			wait := retry.NextBackOff()
			d.logger.WarnContext(ctx, "audit delivery failed, trying again", "error", err, "retry_in", wait)
			again = time.After(wait)
		} else {
			retry.Reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-d.wake:
		}
	}
}

// Deliver delivers until the outbox is empty.
func (d *Deliverer) Deliver(ctx context.Context) error {
	for {
		// Before the lock, for which a worker can wait behind another.
		if err := d.observe(ctx); err != nil {
			return fmt.Errorf("look at the audit outbox: %w", err)
		}
		delivered, err := d.deliverBatch(ctx)
		if err != nil {
			return fmt.Errorf("deliver audit entries: %w", err)
		}
		if len(delivered) == 0 {
			return nil
		}
		err = d.underLock(ctx, func(tx pgx.Tx) error {
			return store.On(tx).AcknowledgeAuditEntries(ctx, delivered)
		})
		if err != nil {
			return fmt.Errorf("acknowledge audit entries: %w", err)
		}
		if d.metrics != nil {
			d.metrics.EntriesDelivered(len(delivered))
		}
	}
}

// deliverBatch writes the oldest entries of the outbox to the log and returns
// their ids, including those that an earlier delivery already wrote.
func (d *Deliverer) deliverBatch(ctx context.Context) (delivered []uuid.UUID, err error) {
	err = d.underLock(ctx, func(tx pgx.Tx) error {
		queries := store.On(tx)
		staged, err := queries.ListStagedAuditEntries(ctx, batchSize)
		if err != nil || len(staged) == 0 {
			return err
		}
		delivered = make([]uuid.UUID, len(staged))
		for i, entry := range staged {
			delivered[i] = entry.ID
		}
		logged, err := queries.LogAuditEntries(ctx, delivered)
		if err != nil {
			return err
		}
		isNew := make(map[uuid.UUID]bool, len(logged))
		for _, id := range logged {
			isNew[id] = true
		}
		var payloads []string
		for _, entry := range staged {
			if isNew[entry.ID] {
				payloads = append(payloads, pubsub.AuditEntry{
					ID:         entry.ID,
					Actor:      entry.Actor,
					Action:     entry.Action,
					Provider:   entry.Provider,
					ProviderID: entry.ProviderID,
					Details:    entry.Details,
					OccurredAt: entry.OccurredAt,
				}.Payload())
			}
		}
		return pubsub.Publish(ctx, tx, pubsub.AuditEntries, payloads...)
	})
	return delivered, err
}

func (d *Deliverer) observe(ctx context.Context) error {
	if d.metrics == nil {
		return nil
	}
	outbox, err := store.On(d.pool).OutboxDepth(ctx)
	if err == nil {
		d.metrics.OutboxObserved(Outbox{Depth: outbox.Depth, Oldest: oldest(outbox)})
	}
	return err
}

func oldest(outbox store.OutboxDepthRow) time.Time {
	if outbox.Depth == 0 {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(outbox.OldestAgeSeconds * float64(time.Second)))
}

func (d *Deliverer) underLock(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if err := store.On(tx).LockDelivery(ctx, DeliveryLock); err != nil {
			return err
		}
		return do(tx)
	})
}
