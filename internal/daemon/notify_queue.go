package daemon

import (
	"context"
	"fmt"

	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
)

// queueRemedy finds who keeps the queue of notifications from being freed.
const queueRemedy = "end the session that listens and stays in a transaction: " +
	"SELECT pid, usename, application_name, xact_start FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start"

// mind looks at the error of something done, nil if it succeeded, for what the
// worker can do about it or has to tell.
func (d *daemon) mind(ctx context.Context, err error) {
	d.mindPrivileges(ctx, err)
	d.mindQueue(ctx, err)
	d.mindSchema(ctx, err)
}

// mindQueue frees the queue of notifications when err is that it is full. What
// failed is tried again by itself.
func (d *daemon) mindQueue(ctx context.Context, err error) {
	if !pubsub.IsQueueFull(err) {
		return
	}
	usage, freeing := pubsub.FreeQueue(ctx, d.pool)
	if freeing != nil {
		d.Logger.WarnContext(ctx, "the server's queue of notifications cannot be freed", "error", freeing)
		return
	}
	d.metrics.NotifyQueue(usage)
	if d.told.isNews("queue full", "full") {
		d.Logger.ErrorContext(ctx, "the server's queue of notifications is full: no alert can be published until it is not",
			"error", err, "usage", usage, "remedy", queueRemedy)
	}
}

// mindSchema ends a watch that is run again when err is that the schema is gone: the
// database was dropped and made again, and only the boot migrates and seeds it.
func (d *daemon) mindSchema(ctx context.Context, err error) {
	if d.restarts && schema.IsGone(ctx, d.pool, err) {
		d.end(fmt.Errorf("the database no longer has the schema provwatch: %w", err))
	}
}
