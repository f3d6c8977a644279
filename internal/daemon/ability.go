package daemon

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/retry"
)

const (
	// abilityPause is the time between two checks whether this worker can alert.
	abilityPause = time.Second
	// firstYields and maxYields are for how many times --takeover-after other standbys come
	// before a leader that has resigned, the first time and at most.
	firstYields = 4
	maxYields   = 64
)

// ability is for how long a leader has been unable to alert for reasons of its own. A
// reason that comes back before the limit counts as one that lasts: a part that fails is
// retried, and can seem to work meanwhile. It belongs to one goroutine.
type ability struct {
	limit time.Duration

	unableSince, ableSince time.Time
}

// see adds why the leader is unable now, nil for able, and reports whether the leader must resign.
func (a *ability) see(unable error, now time.Time) bool {
	if unable == nil {
		if a.ableSince.IsZero() {
			a.ableSince = now
		}
		if now.Sub(a.ableSince) >= a.limit {
			a.unableSince = time.Time{}
		}
		return false
	}
	a.ableSince = time.Time{}
	if a.unableSince.IsZero() {
		a.unableSince = now
	}
	return now.Sub(a.unableSince) >= a.limit
}

// isWell reports whether the leader has been able for as long as the limit.
func (a *ability) isWell() bool { return a.unableSince.IsZero() && !a.ableSince.IsZero() }

// abilityCheck checks in a term whether this worker can alert. The goroutine that [leading]
// starts for it uses it.
type abilityCheck struct {
	pool          *pgxpool.Pool
	health        *health
	takeOverAfter time.Duration
	answerTimeout time.Duration
	yield         *retry.Backoff // of the [participant]
}

// run returns why this worker must resign, once it has been unable to alert for
// --takeover-after and another one waits to lead, at two checks in a row; nil when ctx ends before that. While the
// leader is well, it resets yield.
func (c *abilityCheck) run(ctx context.Context, term *leader.Term) error {
	able, confirmed := ability{limit: c.takeOverAfter}, false
	ticks := time.NewTicker(abilityPause)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		unable := c.health.unable()
		if !able.see(unable, time.Now()) {
			if able.isWell() {
				c.yield.Reset()
			}
			confirmed = false
			continue
		}
		limited, cancel := context.WithTimeout(postgres.Aside(ctx), c.answerTimeout)
		contended, err := term.IsContended(limited, c.pool)
		cancel()
		if err != nil || !contended {
			continue
		}
		// The health is a moment old: its reason can be over by now.
		if confirmed {
			return unable
		}
		confirmed = true
	}
}

// newYield returns how long other standbys come first, after one resignation and the next.
func newYield(takeOverAfter time.Duration) *retry.Backoff {
	return retry.Policy{First: firstYields * takeOverAfter, Max: maxYields * takeOverAfter, Factor: 2}.Backoff()
}
