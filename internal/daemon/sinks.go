package daemon

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/listener"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/sink"
	"provwatch/internal/store"
)

// sinkUse is what the role is used for beside the source's use.
func (o Options) sinkUse() schema.Use {
	if len(o.Sinks.Sinks) == 0 {
		return 0
	}
	return schema.Sinks
}

// prepareSinks makes sure that what the seed is about to write reaches the sinks.
func (o *Options) prepareSinks(ctx context.Context, pool *pgxpool.Pool) (err error) {
	if len(o.Sinks.Sinks) == 0 {
		return nil
	}
	if o.Sinks.Cluster == "" {
		if o.Sinks.Cluster, err = sink.ClusterName(ctx, pool); err != nil {
			return err
		}
	}
	return sink.Register(ctx, pool, o.Sinks)
}

// listenForSinks wakes them by what is published, whichever worker or command did.
// They run while this session leads, so that none of it is missed.
func (d *daemon) listenForSinks(listen *listener.Listener) {
	if len(d.Sinks.Sinks) == 0 {
		return
	}
	listen.Wake(pubsub.DriftAlerts, func() { d.sinks.Wake(sink.Drift) })
	listen.Wake(pubsub.AuditEntries, func() { d.sinks.Wake(sink.Audit) })
	listen.Wake(pubsub.SinkRequests, d.sinks.Attend)
}

// publishFor publishes a status when the transaction db commits.
func (d *daemon) publishFor(ctx context.Context, db store.DBTX, event pubsub.Event, reason string) error {
	status := pubsub.Status{
		Event: event, Worker: d.worker, Version: d.Version, Providers: d.verifier.Providers(), At: time.Now(), Reason: reason,
	}
	status.Source, _ = d.source.Load().(string)
	return pubsub.Publish(ctx, db, pubsub.Statuses, status.Payload())
}
