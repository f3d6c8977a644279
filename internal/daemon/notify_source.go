package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/retry"
	"provwatch/internal/store"
	"provwatch/internal/verify"
	"provwatch/internal/wal"
)

// notifySource leads by notifications. It belongs to the goroutine of the [participant].
type notifySource struct {
	maxBackOff    time.Duration
	observe       bool // it creates no triggers
	pool          *pgxpool.Pool
	pending       *verify.Queue
	verifier      *verify.Verifier
	verifications *verifications
	triggers      *triggers
	current       *sourceSwitch
	preparation   *preparation
	liveness      *liveness
	logger        *slog.Logger

	logged logDedup
}

// run leads by notifications until ctx ends, or for as long as limit says, 0 for no limit.
// What the WAL source has kept is forgotten first, which takes none of that time: it does
// not know of what is alerted from here on, and a slot that nobody reads keeps the server's
// disk filling. reason is why the WAL is not the source, empty where notifications are
// asked for.
func (n *notifySource) run(ctx context.Context, term *leader.Term, first pubsub.Source, reason string, limit time.Duration) {
	if !n.replaceWAL(ctx, term, reason) {
		return
	}
	if limit > 0 {
		limited, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		ctx = limited
	}
	keep := n.begin(ctx, reason)
	n.pending.Add(verify.Everything(first))
	var group conc.WaitGroup
	defer group.Wait()
	keeping, stop := context.WithCancel(ctx)
	defer stop() // also where the verifier panics
	// Without triggers everything is verified now and then.
	group.Go(func() { keep(postgres.Aside(keeping)) })
	defer n.liveness.take()()
	n.verifier.Run(ctx, n.pending, n.maxBackOff, n.verifications)
}

// begin switches to the source, and returns what keeps the triggers, or only looks for them,
// until its context ends. Everything must be verified after that: of what is changed from
// then on the triggers notify, or it is noticed that they have not.
func (n *notifySource) begin(ctx context.Context, reason string) (keep func(context.Context)) {
	if n.observe {
		lookout := newTriggerLookout(n.triggers, n.current, reason)
		lookout.look(ctx)
		return lookout.run
	}
	n.current.use(ctx, NotifySource, reason)
	n.warnOfPrepared(ctx)
	return n.triggers.newKeeper(ctx).run
}

// replaceWAL retires the WAL source. It retries, and returns false when ctx ends.
func (n *notifySource) replaceWAL(ctx context.Context, term *leader.Term, reason string) bool {
	for attempt := range retry.Every(leadPause).Attempts(ctx) {
		err := n.retireWAL(ctx, term, reason)
		if n.preparation.isDone(ctx, attempt, "could not retire the WAL source, retrying", err) {
			return true
		}
	}
	return false
}

// warnOfPrepared warns where a transaction that changes a provider cannot be prepared: the
// triggers notify, and PostgreSQL prepares no transaction that does.
func (n *notifySource) warnOfPrepared(ctx context.Context) {
	prepared, err := store.On(n.pool).MaxPrepared(ctx)
	if err == nil && prepared > 0 && n.logged.isNew("prepared", "warned") {
		n.logger.WarnContext(ctx, "PREPARE TRANSACTION fails for transactions that change a provider while notifications are the source",
			"max_prepared_transactions", prepared, "remedy", remedy.Advice{remedy.Set("--source=wal"), ", where a writer prepares its transactions"})
	}
}

// retireWAL forgets the position in the WAL, which is a gap if there was one, and drops the
// slot if it can.
func (n *notifySource) retireWAL(ctx context.Context, term *leader.Term, reason string) error {
	if err := term.Confirm(ctx, n.pool); err != nil {
		return err
	}
	if reason == "" {
		reason = "notifications are the source"
	}
	var forgotten int64
	var gap verify.Recorded
	err := pgx.BeginFunc(ctx, n.pool, func(tx pgx.Tx) (err error) {
		if err := store.On(tx).LimitIdle(ctx); err != nil {
			return err
		}
		if forgotten, err = store.On(tx).ForgetWALPosition(ctx, term.Number); err != nil || forgotten == 0 {
			return err
		}
		gap, err = n.verifier.Gap(ctx, tx, reason, pubsub.SourceNotify)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget the position in the WAL: %w", err)
	}
	if forgotten > 0 {
		n.verifier.Announce(ctx, gap)
	}
	server, err := wal.Inspect(ctx, n.pool)
	if server.Slot == "" {
		return err
	}
	// Once more: the slot can be the next leader's by now.
	if err := term.Confirm(ctx, n.pool); err != nil {
		return err
	}
	if _, err := wal.DropSlot(ctx, n.pool, server.Slot); err != nil && ctx.Err() == nil {
		n.logger.WarnContext(ctx, "the replication slot is not dropped", "error", err, "remedy", remedy.Run("slot drop"))
	}
	return nil
}
