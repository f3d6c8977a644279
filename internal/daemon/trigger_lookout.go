package daemon

import (
	"context"
	"time"

	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/verify"
)

// triggerLookout is what a worker that observes has instead of a [triggerKeeper]: it looks for
// the triggers that the owner of the provider tables has made, and creates none. It belongs
// to one call of [notifySource.run].
type triggerLookout struct {
	triggers *triggers
	current  *sourceSwitch
	reason   string // why the WAL is not the source, empty where it is not asked for
	// version is as in [triggerKeeper].
	version string
	// verifyAt is when everything must be verified again while no trigger notifies.
	verifyAt time.Time
}

func newTriggerLookout(t *triggers, current *sourceSwitch, reason string) *triggerLookout {
	return &triggerLookout{triggers: t, current: current, reason: reason, verifyAt: time.Now().Add(blindInterval)}
}

// run looks each [triggerInterval] until ctx ends.
func (l *triggerLookout) run(ctx context.Context) {
	ticks := time.NewTicker(triggerInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			l.look(ctx)
		}
	}
}

// look chooses the source: notifications where the triggers fire in every session, else the
// resync each [blindInterval].
func (l *triggerLookout) look(ctx context.Context) {
	found, err := schema.FindTriggers(ctx, l.triggers.pool)
	if ctx.Err() != nil {
		return
	}
	if l.triggers.logged.isNewError("lookout", err) && err != nil {
		l.triggers.logger.WarnContext(ctx, "could not look for the triggers, retrying", "error", err)
	}
	switch {
	case err != nil: // the source stays
	case found.State == schema.TriggersAlways:
		l.current.use(ctx, NotifySource, l.reason)
		if found.Version != l.version {
			// What was changed before can have passed without a notification.
			l.version = found.Version
			l.triggers.pending.Add(verify.Everything(pubsub.SourceResync))
		}
		return
	default:
		l.current.use(ctx, ResyncSource, l.why(found.State), "every", blindInterval,
			"remedy", remedy.Advice{"run ", migrateTriggers, " as the owner of the provider tables"})
	}
	if now := time.Now(); !now.Before(l.verifyAt) {
		l.triggers.pending.Add(verify.Everything(pubsub.SourceResync))
		l.verifyAt = now.Add(blindInterval)
	}
}

// why is the reason for [ResyncSource].
func (l *triggerLookout) why(state schema.TriggerState) string {
	reason := "the triggers on the provider tables are missing"
	if state == schema.TriggersPartial {
		reason = "the triggers on the provider tables do not fire in sessions with session_replication_role = replica"
	}
	if l.reason != "" {
		return l.reason + "; " + reason
	}
	return reason
}
