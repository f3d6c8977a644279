package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/retry"
	"provwatch/internal/schema"
	"provwatch/internal/verify"
)

const (
	// triggerPause is the wait before removing triggers is retried.
	triggerPause = 30 * time.Second
	// triggerInterval is the time between two checks of the triggers.
	triggerInterval = 5 * time.Second
	// maxTriggerWait bounds the wait before creating triggers is retried.
	maxTriggerWait = 5 * time.Minute
	// blindInterval is the most time between two full verifications while the triggers are
	// missing and cannot be created.
	blindInterval = 45 * time.Second
)

// triggers creates, checks and removes the triggers on the provider tables, which notify of
// changes. Its methods may be called by several goroutines.
type triggers struct {
	pool    *pgxpool.Pool
	migrate schema.Mode
	pending *verify.Queue
	logger  *slog.Logger

	logged logDedup
}

// triggerKeeper ensures the triggers. Tables that are dropped and created again, as by an
// upgrade of the gateway, have none: they get them, and everything is verified. While
// triggers are missing, from the start or later, or do not fire in every session, everything
// is verified at least each [blindInterval].
//
// It belongs to one call of [notifySource.run].
type triggerKeeper struct {
	triggers *triggers
	wait     *retry.Backoff
	// version is that of the triggers which have notified of all that was changed since
	// everything was last asked for, empty where none are known to have.
	version string

	checked bool      // at least once
	failed  error     // of the last attempt to create triggers
	tryAt   time.Time // when the next attempt is due
}

// newKeeper returns a keeper that begins with the present triggers. The caller then has
// everything verified.
func (t *triggers) newKeeper(ctx context.Context) *triggerKeeper {
	// Creating triggers waits for writers, and makes others wait behind it: the wait after
	// each failure is longer.
	k := &triggerKeeper{triggers: t, wait: retry.Policy{First: triggerInterval, Max: maxTriggerWait}.Backoff()}
	// Where that fails, the first check that does not has everything verified once more.
	if found, err := schema.FindTriggers(ctx, t.pool); err == nil {
		k.version = found.Version
	}
	return k
}

// run keeps the triggers until ctx ends.
func (k *triggerKeeper) run(ctx context.Context) {
	for {
		pause := k.ensure(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// ensure creates the triggers where they are missing, and returns the time until the next
// check.
func (k *triggerKeeper) ensure(ctx context.Context) (pause time.Duration) {
	first := !k.checked
	k.checked = true
	found, err := schema.FindTriggers(ctx, k.triggers.pool)
	if err != nil {
		k.triggers.warn(ctx, err)
		return k.wait.Next()
	}
	blind, creates := found.State != schema.TriggersAlways, k.triggers.migrate == schema.Auto
	tries := blind && creates && !time.Now().Before(k.tryAt)
	switch {
	case blind && first, tries:
		// Only of triggers that were missing when they were looked for: tables that are made
		// again after that get theirs with the next check.
		found, err = k.triggers.create(ctx)
		k.failed = err
	case blind && creates:
		err = k.failed
	case blind:
		err = k.triggers.lacking(found.State)
	}
	k.triggers.warn(ctx, err)
	if err == nil {
		k.wait.Reset()
		if found.Version != k.version {
			// Also where they were never seen to be missing: what was changed before can have
			// passed without a notification.
			k.version = found.Version
			k.triggers.pending.Add(verify.Everything(pubsub.SourceResync))
		}
		return triggerInterval
	}
	// Changes send no notification, and neither does a table that the role cannot read.
	k.triggers.pending.Add(verify.Everything(pubsub.SourceResync))
	pause = blindInterval
	if tries || !creates {
		pause = k.wait.Next()
	}
	if tries && !schema.IsDenied(err) { // writers wait for it
		k.tryAt = time.Now().Add(pause)
	}
	return min(pause, blindInterval)
}

func (t *triggers) warn(ctx context.Context, err error) {
	if ctx.Err() == nil && t.logged.isNewError("missing", err) && err != nil {
		t.logger.WarnContext(ctx, "could not create the triggers: changes are seen late", "error", err)
	}
}

// create creates the triggers where they are missing and --migrate asks for it, and nothing
// else. It fails unless they fire in every session then.
func (t *triggers) create(ctx context.Context) (schema.Triggers, error) {
	if err := schema.Ensure(ctx, t.pool, t.migrate, schema.Needs{Triggers: true, Migrated: true}, t.logger); err != nil {
		return schema.Triggers{}, err
	}
	found, err := schema.FindTriggers(ctx, t.pool)
	if err != nil {
		return found, err
	}
	return found, t.lacking(found.State)
}

// lacking is the error of triggers that are missing or do not always fire, nil for others.
func (t *triggers) lacking(state schema.TriggerState) error {
	what := "they are missing"
	switch state {
	case schema.TriggersAlways:
		return nil
	case schema.TriggersPartial:
		what = "they do not fire in sessions with session_replication_role = replica"
	}
	return remedy.Problem(what+"; run ", migrateTriggers, " as the owner of the tables")
}

// migrateTriggers creates the triggers.
var migrateTriggers = remedy.Run("migrate", "--source=notify")

// remove removes the triggers that notifications needed. It retries while a provider table
// is in use, until ctx ends.
func (t *triggers) remove(ctx context.Context) {
	if t.migrate != schema.Auto {
		return
	}
	for attempt := range retry.Every(triggerPause).Attempts(ctx) {
		err := schema.RemoveTriggers(ctx, t.pool)
		if err == nil || ctx.Err() != nil {
			return
		}
		if schema.IsDenied(err) {
			if t.logged.isNew("stay", err.Error()) {
				t.logger.InfoContext(ctx, "triggers that the WAL source does not need stay, since the role does not own the provider tables", "error", err)
			}
			return
		}
		wait, _ := attempt.Failed()
		t.logger.InfoContext(ctx, "triggers that the WAL source does not need are still there", "error", err, "retry_in", wait)
	}
}
