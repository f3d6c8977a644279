package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/leader"
	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
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

// checkAbility returns why this worker must resign, once it has been unable to alert for
// --takeover-after and another one waits to lead; nil when ctx ends before that.
func (l *leading) checkAbility(ctx context.Context, term *leader.Term) error {
	able := ability{limit: l.takeOverAfter}
	ticks := time.NewTicker(abilityPause)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		unable := l.health.unable()
		if !able.see(unable, time.Now()) {
			if able.isWell() {
				l.yield.Reset()
			}
			continue
		}
		limited, cancel := context.WithTimeout(postgres.Aside(ctx), l.answerTimeout)
		contended, err := term.IsContended(limited, l.pool)
		cancel()
		if err == nil && contended {
			return unable
		}
	}
}
