package daemon

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
)

// fillingUsage is how full the queue is when the worker warns of it.
const fillingUsage = 0.5

// queueRemedy finds who keeps the queue of notifications from being freed.
func queueRemedy() remedy.Advice {
	return remedy.Advice{"end the session that listens and stays in a transaction: " +
		"SELECT pid, usename, application_name, xact_start FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start"}
}

// notifyQueue reports how full the server's queue of notifications is, and frees it when it
// is full. Several goroutines call its methods.
type notifyQueue struct {
	pool    *pgxpool.Pool
	metrics *instruments
	logger  *slog.Logger

	logged logDedup
}

// used gets how full the queue is, from 0 to 1.
func (q *notifyQueue) used(usage float64) {
	q.metrics.NotifyQueue(usage)
	text := ""
	if usage >= fillingUsage {
		text = "filling"
	} else {
		q.logged.isNew("full", "")
	}
	if q.logged.isNew("filling", text) && text != "" {
		q.logger.Warn("the server's queue of notifications is filling: once it is full, transactions that notify fail",
			"usage", usage, "remedy", queueRemedy())
	}
}

// react frees the queue when the error is that it is full. What failed is retried.
func (q *notifyQueue) react(ctx context.Context, err error) {
	if !pubsub.IsQueueFull(err) {
		return
	}
	usage, freeing := pubsub.FreeQueue(ctx, q.pool)
	if freeing != nil {
		q.logger.WarnContext(ctx, "the server's queue of notifications cannot be freed", "error", freeing)
		return
	}
	q.metrics.NotifyQueue(usage)
	if q.logged.isNew("full", "full") {
		q.logger.ErrorContext(ctx, "the server's queue of notifications is full: no alert can be published until it is not",
			"error", err, "usage", usage, "remedy", queueRemedy())
	}
}
