package daemon

import (
	"context"
	"time"

	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
)

const (
	// maxLookPause and minLookPause bound how often it is looked for statements that have
	// not ended in time.
	maxLookPause = time.Second
	minLookPause = 50 * time.Millisecond
	// maxSettle bounds for how long a reason stands in any case.
	maxSettle = 2 * time.Second
	// statementLimits is how many times --answer-timeout a statement of a running worker
	// may take, unless it has a limit of its own.
	statementLimits = 3
)

// waits watches what the sessions of a worker have begun and not ended.
//
// A statement may wait for half of --answer-timeout for another session, and may last for
// all of it where it waits for none. After that the worker is not ready, with the holder
// as the reason. That holds for each statement on which an alert depends, at the boot too:
// none has to be listed here.
type waits struct {
	activity *postgres.Activity
	health   *health
	// look finds who holds up the session of a process.
	look     func(ctx context.Context, pid uint32) (lockwait.Holders, error)
	patience time.Duration // for a statement that waits for another session
	linger   time.Duration // for which a reason stands that may come again

	seen     postgres.Wait
	holders  lockwait.Holders
	lookedAt time.Time
	last     error
	lastAt   time.Time
}

func (o Options) newWaits(h *health) *waits {
	database := o.Database
	return &waits{
		activity: postgres.ActivityOf(database.ConnConfig), health: h, patience: o.AnswerTimeout / 2, linger: o.AnswerTimeout + o.MaxBackOff*3/2,
		look: func(ctx context.Context, pid uint32) (lockwait.Holders, error) {
			return lockwait.Lookup(ctx, database, pid)
		},
	}
}

// run watches until ctx ends.
func (w *waits) run(ctx context.Context) {
	ticks := time.NewTicker(max(min(w.patience/5, maxLookPause), minLookPause))
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			w.health.setWaiting(w.reason(ctx, time.Now()))
		}
	}
}

// reason returns why the worker is not ready for the sake of what has not ended, nil where
// all has.
func (w *waits) reason(ctx context.Context, now time.Time) error {
	if err := w.current(ctx, now); err != nil {
		w.last, w.lastAt = err, now
		return err
	}
	// What was broken off is tried again, and waits again. That it has failed is known a
	// moment later.
	ago := now.Sub(w.lastAt)
	if w.last != nil && (ago < min(w.patience, maxSettle) || ago < w.linger && w.health.hasFailed()) {
		return w.last
	}
	w.last = nil
	return nil
}

func (w *waits) current(ctx context.Context, now time.Time) error {
	wait, found := w.activity.Oldest(now, w.patience)
	if !found {
		return nil
	}
	if wait.PID > 0 && w.isDue(wait, now) {
		holders, err := w.look(ctx, wait.PID)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil:
			holders = nil
		case len(holders) == 0 && wait.Retried && wait == w.seen:
			holders = w.holders // the session is between two tries
		}
		w.seen, w.holders, w.lookedAt = wait, holders, now
	}
	late := lockwait.Late(wait)
	switch {
	case wait.PID > 0 && len(w.holders) > 0:
		late.Holders = w.holders
		return late
	case wait.Late, now.Sub(wait.Since) > 2*w.patience:
		return late
	}
	return nil
}

// isDue reports whether to look for who holds up the session.
func (w *waits) isDue(wait postgres.Wait, now time.Time) bool {
	return wait != w.seen || now.Sub(w.lookedAt) > w.patience || wait.Retried && len(w.holders) == 0
}
