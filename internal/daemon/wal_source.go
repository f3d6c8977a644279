package daemon

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/verify"
	"provwatch/internal/wal"
)

// walSource leads by the WAL. It belongs to the goroutine of the [participant], apart from
// its [walHost].
type walSource struct {
	options       Options
	pool          *pgxpool.Pool
	pending       *verify.Queue
	verifier      *verify.Verifier
	verifications *verifications
	triggers      *triggers
	current       *sourceSwitch
	liveness      *liveness
	metrics       *instruments

	// published is that the boot has just ensured the publication, and the privileges that
	// go with it. The boot sets it, the first session takes it.
	published atomic.Bool
	logged    logDedup
}

// run reads the WAL. It returns nil when ctx ends, and otherwise why the WAL cannot be read.
func (w *walSource) run(ctx context.Context, term *leader.Term, first pubsub.Source) error {
	if w.options.Source == AutoSource && !w.published.Load() {
		if err := lacksForWAL(ctx, w.pool, w.options.uses()); err != nil {
			return w.options.Site.Error(err)
		}
	}
	reader := wal.Reader{
		Pool:       w.pool,
		Config:     postgres.ReplicationConfig(w.options.Database),
		Verifier:   w.verifier,
		Keys:       w.options.Keys,
		Pending:    w.pending,
		MaxLag:     w.options.SlotMaxLag,
		MaxBackOff: w.options.MaxBackOff,
		Logger:     w.options.Logger,
		Metrics:    w.metrics,
		Host:       walHost{w, ctx},
		Fallback:   w.options.Source == AutoSource,
		Otherwise:  w.options.uses().of(NotifySource),
		Term:       term,
	}
	err := reader.Run(ctx, first)
	if mustUnpublish(err) {
		w.unpublish(ctx)
	}
	return w.options.Site.Error(err)
}

// unpublish drops the publication, which makes writing to the provider tables fail as they
// are. A worker that observes only reports it.
func (w *walSource) unpublish(ctx context.Context) {
	err := errObserves
	if !w.options.Observe {
		err = schema.DropPublication(ctx, w.options.Database.ConnConfig)
	}
	if err != nil && ctx.Err() == nil && w.logged.isNew("unpublish", err.Error()) {
		w.options.Logger.ErrorContext(ctx, "the publication makes writing to the provider tables fail and cannot be dropped", "error", err,
			"remedy", remedy.Advice{"DROP PUBLICATION provwatch, as its owner"})
	}
}

// errObserves is why a worker does not change what the owner has made.
var errObserves = errors.New("this worker observes, and drops nothing")

// walHost is the [wal.Host] of one call of [walSource.run].
type walHost struct {
	source *walSource
	ctx    context.Context // of that call, which outlives each stream
}

// Publish implements [wal.Host]: the boot has just ensured the publication, or this does. A
// worker that observes finds it.
func (h walHost) Publish(ctx context.Context) error {
	w := h.source
	if w.published.Swap(false) {
		return nil
	}
	if !w.options.Observe {
		return schema.Ensure(ctx, w.pool, w.options.Migrate, schema.Needs{Publication: true, Migrated: true}, w.options.Logger)
	}
	if published, err := isPublished(ctx, w.pool); err != nil || published {
		return err
	}
	return errUnpublished()
}

// Streaming implements [wal.Host].
func (h walHost) Streaming(ctx context.Context) {
	context.AfterFunc(ctx, h.source.liveness.take())
	h.source.current.use(ctx, WALSource, "")
	h.source.triggers.remove(postgres.Aside(ctx))
}

// Verified implements [wal.Host].
func (h walHost) Verified(request verify.Request, err error) {
	h.source.verifications.Verified(h.ctx, request, err)
}

// lacksForWAL returns which privileges the role lacks for the WAL alone:
// a reason to fall back. A lost connection is no reason: with the slot, what was changed meanwhile
// would be given up for it. A session meets it again, and waits for it to pass.
func lacksForWAL(ctx context.Context, pool *pgxpool.Pool, u uses) error {
	var lacking *schema.UnusableError
	err := schema.CheckPrivileges(ctx, pool, u.of(WALSource))
	if !errors.As(err, &lacking) || schema.CheckPrivileges(ctx, pool, u.of(NotifySource)) != nil {
		return nil
	}
	return err
}
