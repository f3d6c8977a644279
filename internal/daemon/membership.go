package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"provwatch/internal/postgres"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

const (
	// Looks at the environments of others are limited so that notifications, which any role can
	// send, cannot keep the database busy: the first ones come at once, and more at this rate.
	looksPerSecond = 1
	looksAtOnce    = 5
	// membershipRetry bounds the wait before a refresh that has failed is retried.
	membershipRetry = 5 * time.Second
	// membershipTimeout bounds a refresh.
	membershipTimeout = 5 * time.Second
	// forgetInterval is the time between two looks for former workers: each seed by "worker seed"
	// leaves one.
	forgetInterval = time.Hour
)

// membership has this worker seen by the others of its database, and shows whether its
// environment is older than another one's. It has a goroutine of its own, apart from
// [membership.wake], which any goroutine can call, and the methods of [leader.Candidate], which
// the listener's goroutine calls.
type membership struct {
	member   *rollout.Member
	pool     *pgxpool.Pool
	verifier *verify.Verifier
	health   *health
	metrics  *instruments
	report   *report
	logger   *slog.Logger
	// forgets is the time between two looks for former workers.
	forgets time.Duration

	woken  chan struct{} // of capacity 1
	older  bool          // it was last shown so
	logged logDedup
}

// MayLead implements [leader.Candidate].
func (m *membership) MayLead() bool { return m.member.MayLead() }

// Refresh implements [leader.Candidate].
func (m *membership) Refresh(ctx context.Context, conn *pgx.Conn) error {
	return m.verifier.RefreshMember(ctx, conn)
}

// wake has the membership look at the environments of others soon.
func (m *membership) wake() {
	select {
	case m.woken <- struct{}{}:
	default: // it looks anyway
	}
}

// run looks several times in a window, when it is woken, and when the worker can cease to be
// older, until ctx ends.
func (m *membership) run(ctx context.Context) {
	m.forget(ctx)
	limiter := rate.NewLimiter(looksPerSecond, looksAtOnce)
	next := time.Now()
	due := time.NewTimer(0)
	defer due.Stop()
	forgets := time.NewTicker(m.forgets)
	defer forgets.Stop()
	for {
		changed := m.member.Changed()
		m.show(ctx)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-m.woken:
			// It looks earlier, and never later: notifications must not keep others from seeing it.
			r := limiter.Reserve()
			if soon := time.Now().Add(r.Delay()); soon.Before(next) {
				next = soon
				due.Reset(time.Until(next))
			} else {
				r.Cancel()
			}
		case <-due.C:
			next = time.Now().Add(m.look(ctx))
			due.Reset(time.Until(next))
		case <-forgets.C:
			m.forget(ctx)
		}
	}
}

// look has the worker seen, and returns the time until the next look.
func (m *membership) look(ctx context.Context) (next time.Duration) {
	limited, cancel := context.WithTimeout(postgres.Aside(ctx), membershipTimeout)
	defer cancel()
	err := m.verifier.RefreshMember(limited, m.pool)
	if err == nil {
		m.logged.isNewError("look", nil)
		return m.member.NextRefresh()
	}
	if ctx.Err() == nil && m.logged.isNewError("look", err) {
		m.logger.InfoContext(ctx, "could not record that this worker is there, retrying", "error", err)
	}
	return min(membershipRetry, m.member.NextRefresh())
}

// show shows whether the environment is older, and logs where that is news.
func (m *membership) show(ctx context.Context) {
	older := m.member.Older()
	m.metrics.Older(older != nil) // first: who has read the health can ask for the metric next
	m.health.setOlder(older)
	if m.older == (older != nil) {
		return
	}
	m.older = older != nil
	m.report.describe()
	if older == nil {
		m.logger.InfoContext(ctx, "the environment is no longer older than another one")
		return
	}
	m.logger.WarnContext(ctx, "the environment is older than that of another worker: this worker seeds, alerts and applies nothing", older.Attributes()...)
}

// forget deletes what former workers have left.
func (m *membership) forget(ctx context.Context) {
	if m.member.Observes() {
		return
	}
	limited, cancel := context.WithTimeout(postgres.Aside(ctx), membershipTimeout)
	defer cancel()
	if err := store.On(m.pool).ForgetWorkers(limited); err != nil && ctx.Err() == nil {
		m.logger.InfoContext(ctx, "could not forget former workers", "error", err)
	}
}
