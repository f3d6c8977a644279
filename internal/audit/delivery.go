package audit

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/store"
)

const (
	// batchSize is how many entries are delivered at a time.
	batchSize = 1000
	// wakesPerSecond bounds what a flood of notifications costs: anyone who connects
	// to the database may send them.
	wakesPerSecond = 20
)

// Metrics receives what a [Deliverer] measures.
type Metrics interface {
	OutboxObserved(Outbox)
	EntriesDelivered(n int)
}

// Host is the worker that a [Deliverer] delivers for.
type Host interface {
	// Delivered gets the error of each delivery of [Deliverer.Run], nil where it has
	// succeeded. It is called on the goroutine of Run.
	Delivered(ctx context.Context, err error)
}

// Deliverer moves entries from the outbox to provwatch.audit_log, and publishes
// each on the audit channel as it enters the log.
//
// An entry leaves the outbox, enters the log and is published in one transaction,
// which also gives it its seq: so the log and the channel get every entry exactly
// once, and seq has no gaps and is in the order of commits.
type Deliverer struct {
	pool    *pgxpool.Pool
	logger  *slog.Logger
	metrics Metrics
	wake    chan struct{} // holds a wake that Run has not received; any goroutine sends
	wakes   *rate.Limiter // of Run
}

// NewDeliverer returns a deliverer. metrics may be nil.
func NewDeliverer(pool *pgxpool.Pool, logger *slog.Logger, metrics Metrics) *Deliverer {
	return &Deliverer{pool: pool, logger: logger, metrics: metrics, wake: make(chan struct{}, 1),
		wakes: rate.NewLimiter(wakesPerSecond, wakesPerSecond)}
}

// Wake makes a running [Deliverer.Run] deliver. It never blocks. The listener calls Wake
// when a command has staged entries.
func (d *Deliverer) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run delivers at each Wake until ctx ends. It retries a delivery that fails with backoff,
// without limit. No alert depends on its statements.
func (d *Deliverer) Run(ctx context.Context, host Host) {
	for attempt := range (retry.Policy{Wake: d.wake}).Attempts(ctx) {
		if d.wakes.Wait(ctx) != nil {
			return // ctx has ended
		}
		err := d.Deliver(postgres.Aside(ctx))
		if ctx.Err() != nil {
			return
		}
		host.Delivered(ctx, err)
		if err != nil {
			wait, _ := attempt.Failed()
			d.logger.WarnContext(ctx, "audit delivery failed, retrying", "error", err, "retry_in", wait)
			continue
		}
		select {
		case <-ctx.Done():
			return
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
		if delivered == 0 {
			if d.metrics != nil {
				d.metrics.OutboxObserved(Outbox{}) // another worker may have emptied it meanwhile
			}
			return nil
		}
		if d.metrics != nil {
			d.metrics.EntriesDelivered(delivered)
		}
	}
}

// deliverBatch delivers the oldest entries of the outbox and returns how many.
func (d *Deliverer) deliverBatch(ctx context.Context) (delivered int, err error) {
	var repeated []uuid.UUID
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		queries := store.On(tx)
		if _, err := queries.LockDelivery(ctx); err != nil {
			return fmt.Errorf("lock the counter: %w", err)
		}
		staged, err := queries.ListStagedAuditEntries(ctx, store.ListStagedAuditEntriesParams{MaxDetails: pubsub.MaxPayload, MaxEntries: batchSize})
		if err != nil || len(staged) == 0 {
			return err
		}
		ids := make([]uuid.UUID, len(staged))
		for i, entry := range staged {
			ids[i] = entry.ID
		}
		logged, err := queries.DeliverAuditEntries(ctx, ids)
		if err != nil {
			return err
		}
		isNew := make(map[uuid.UUID]bool, len(logged))
		for _, id := range logged {
			isNew[id] = true
		}
		var payloads []string
		repeated = nil
		for _, entry := range staged {
			if !isNew[entry.ID] {
				repeated = append(repeated, entry.ID)
				continue
			}
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
		delivered = len(staged)
		return pubsub.Publish(ctx, tx, pubsub.AuditEntries, payloads...)
	})
	if err != nil {
		return 0, err
	}
	if len(repeated) > 0 {
		d.logger.WarnContext(ctx, "audit entries dropped: the log already has entries of their ids", "ids", repeated)
	}
	return delivered, nil
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
