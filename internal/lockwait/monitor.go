package lockwait

import (
	"context"
	"iter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
)

const (
	// maxPause and minPause bound the time between two checks.
	maxPause = time.Second
	minPause = 50 * time.Millisecond
	// sameWait is for how long a wait that is over counts as the same when it begins again.
	sameWait = time.Minute
)

// Monitor checks what the sessions of one configuration have begun and not ended, and finds
// who holds it up. It belongs to one goroutine.
type Monitor struct {
	activity *postgres.Activity
	holders  lookup
	patience time.Duration // for a statement that waits for another session

	// What the latest lookup found.
	wait     postgres.Wait
	found    Holders
	lookedAt time.Time
}

// lookup finds who holds up the session of a process. Tests have one of their own.
type lookup interface {
	holdersOf(ctx context.Context, pid uint32) (Holders, error)
}

// database is the lookup on a connection of its own.
type database struct{ config *pgxpool.Config }

func (d database) holdersOf(ctx context.Context, pid uint32) (Holders, error) {
	return Lookup(ctx, d.config, pid)
}

// NewMonitor returns a monitor of the sessions of the configuration. A statement can wait
// for another session for the time of patience, and last for twice that time where it waits
// for none.
func NewMonitor(config *pgxpool.Config, patience time.Duration) *Monitor {
	return &Monitor{activity: postgres.ActivityOf(config.ConnConfig), holders: database{config}, patience: patience}
}

// Pause is the time between two calls of [Monitor.Check].
func (m *Monitor) Pause() time.Duration { return max(min(m.patience/5, maxPause), minPause) }

// Check returns what has not ended in time at the moment now, nil for nothing.
func (m *Monitor) Check(ctx context.Context, now time.Time) *LateError {
	wait, found := m.activity.Oldest(now, m.patience)
	if !found {
		return nil
	}
	if wait.PID > 0 && m.isDue(wait, now) {
		holders, err := m.holders.holdersOf(ctx, wait.PID)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil:
			holders = nil
		case len(holders) == 0 && wait.Retried && wait == m.wait:
			holders = m.found // the session is between two tries
		}
		m.wait, m.found, m.lookedAt = wait, holders, now
	}
	late := Late(wait)
	switch {
	case wait.PID > 0 && len(m.found) > 0:
		late.Holders = m.found
		return late
	case wait.Late, now.Sub(wait.Since) > 2*m.patience:
		return late
	}
	return nil
}

// isDue reports whether to look for who holds up the session.
func (m *Monitor) isDue(wait postgres.Wait, now time.Time) bool {
	return wait != m.wait || now.Sub(m.lookedAt) > m.patience || wait.Retried && len(m.found) == 0
}

// Held yields each wait for another session until ctx ends, once for each reason.
func (m *Monitor) Held(ctx context.Context) iter.Seq[*LateError] {
	return func(yield func(*LateError) bool) {
		seen := map[string]time.Time{} // when each reason was last found
		ticks := time.NewTicker(m.Pause())
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
			}
			now := time.Now()
			late := m.Check(ctx, now)
			if late == nil || len(late.Holders) == 0 {
				continue // it may last because it has much to do
			}
			before, again := seen[late.Matter()]
			seen[late.Matter()] = now
			if again && now.Sub(before) <= sameWait {
				continue
			}
			if !yield(late) {
				return
			}
		}
	}
}
