package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/leader"
	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
)

const (
	// abilityPause is the time between two looks whether this worker can alert.
	abilityPause = time.Second
	// firstYields and maxYields are for how many times --takeover-after other standbys come
	// before a leader that has resigned, the first time and at most.
	firstYields = 4
	maxYields   = 64
)

// ability is for how long a leader has been unable to alert for reasons of its own. A
// reason that comes back before the limit counts as one that lasts: a part that fails is
// tried again, and can seem to work meanwhile.
type ability struct {
	limit time.Duration

	unableSince, ableSince time.Time
}

// see adds what is the case, nil for able, and reports whether the leader must resign.
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

// unable is why this worker cannot alert while another one may be able to, nil where it
// can alert or another one cannot either.
func (h *health) unable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var late *lockwait.LateError
	errors.As(h.waiting, &late)
	switch {
	case late != nil && len(late.Holders) > 0, isCommon(h.verified):
		return nil // it holds up other workers as well
	case h.verified != nil:
		return h.verified
	case h.privileges != nil:
		return h.privileges
	}
	return h.waiting
}

// isCommon reports whether the reason is one of the database, whichever worker leads.
func isCommon(err error) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case pgerrcode.DiskFull, pgerrcode.OutOfMemory, pgerrcode.ReadOnlySQLTransaction, pgerrcode.InvalidSchemaName, pgerrcode.UndefinedTable:
		return true
	}
	return pubsub.IsQueueFull(refused)
}

// newYield returns how long other standbys come first, after one resignation and the next.
func (o Options) newYield() *backoff.ExponentialBackOff {
	yield := backoff.NewExponentialBackOff()
	yield.InitialInterval, yield.MaxInterval, yield.Multiplier = firstYields*o.TakeOverAfter, maxYields*o.TakeOverAfter, 2
	yield.Reset()
	return yield
}

// watchAbility returns why this worker must resign, once it has been unable to alert for
// --takeover-after and another one waits to lead; nil when ctx ends before that.
func (d *daemon) watchAbility(ctx context.Context, term *leader.Term) error {
	able := ability{limit: d.TakeOverAfter}
	ticks := time.NewTicker(abilityPause)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		unable := d.health.unable()
		if !able.see(unable, time.Now()) {
			if able.isWell() {
				d.yield.Reset()
			}
			continue
		}
		limited, cancel := context.WithTimeout(postgres.Aside(ctx), d.AnswerTimeout)
		contended, err := term.IsContended(limited, d.pool)
		cancel()
		if err == nil && contended {
			return unable
		}
	}
}
