package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/leader"
	"provwatch/internal/lockwait"
	"provwatch/internal/verify"
)

const (
	// verificationSlack is how much later than a resync the leader may have verified
	// everything.
	verificationSlack = 2 * time.Minute
	// maxSightingGap is the time between two turns of a standby after which it begins to
	// count again, as after it was frozen itself.
	maxSightingGap = time.Minute
	// maxUnrecordedShown bounds how many transitions an error names.
	maxUnrecordedShown = 3
)

// leaderCheck checks, while this worker stands by, whether a leader lives and does its work.
// It is the [leader.Observer] of the elector, whose goroutine is that of the listener.
type leaderCheck struct {
	pool     *pgxpool.Pool
	verifier *verify.Verifier
	health   *health
	logger   *slog.Logger

	monitor verificationMonitor // of the listener's goroutine
	pid     atomic.Int32        // the process of the session that leads; the listener's goroutine writes it
	logged  logDedup
}

// NoLeader implements [leader.Observer].
func (c *leaderCheck) NoLeader(err error) {
	c.health.setLeader(err)
	topic := ""
	if err != nil {
		topic = reason{"leader", err}.topic() // the text has for how long
	}
	if c.logged.isNew("leader silent", topic) && err != nil {
		c.logger.Warn("no live leader is seen", "error", err)
	}
}

// LeaderSeen implements [leader.Observer].
func (c *leaderCheck) LeaderSeen(seen leader.Seen) {
	c.pid.Store(seen.PID)
	c.health.setUnverified(c.monitor.see(seen, time.Now()))
}

// AlertsSeen implements [leader.Observer].
func (c *leaderCheck) AlertsSeen(epoch uuid.UUID, lastSeq int64) {
	c.verifier.AlertsSeen(epoch, lastSeq)
}

// reportUnrecorded makes the worker not ready while the leader does not record what this
// worker sees.
func (c *leaderCheck) reportUnrecorded(ctx context.Context, u *unrecordedTransitions) {
	list, since := u.overdue()
	if len(list) == 0 {
		c.health.setUnrecorded(nil)
		return
	}
	who := lockwait.Holder{PID: c.pid.Load()}
	if described, err := lockwait.Session(ctx, c.pool, who.PID); err == nil {
		who = described
	}
	c.health.setUnrecorded(unrecordedError(who, list, since))
}

// end forgets what is known of the leader, once this worker no longer stands by.
func (c *leaderCheck) end() {
	c.health.setUnrecorded(nil)
	c.health.setUnverified(nil)
}

// verificationMonitor monitors, on a standby, the full verifications of the leader. Its time
// is by the standby's own clock.
type verificationMonitor struct {
	limit time.Duration

	seen        leader.Seen
	since, last time.Time // when seen was first and last seen
}

// unverifiedAfter is how long after a full verification the leader must have ended the
// next one.
func unverifiedAfter(resync time.Duration) time.Duration {
	return resync + resync/10 + verificationSlack // resyncs have a jitter of a tenth
}

// see adds what a turn has seen, and returns why the leader cannot be relied on, nil where
// it can.
func (m *verificationMonitor) see(seen leader.Seen, now time.Time) error {
	if seen != m.seen || now.Sub(m.last) > maxSightingGap {
		m.seen, m.since = seen, now
	}
	m.last = now
	if seen.PID == 0 || now.Sub(m.since) < m.limit {
		return nil
	}
	since := m.since
	if !seen.VerifiedAt.IsZero() {
		since = seen.VerifiedAt
	}
	return fmt.Errorf("the leader, session %d, has not verified everything since %s", seen.PID, since.UTC().Format(time.RFC3339))
}

// unrecordedTransitions are the transitions that a standby sees in each verification and that
// the leader has not recorded. The zero value with a limit holds none. One goroutine uses it.
type unrecordedTransitions struct {
	limit time.Duration
	since map[verify.Transition]time.Time // when each was first seen
	last  time.Time                       // of the last verification
}

// see adds what a verification has found. Of the providers named, sorted, what is not found is
// recorded by now.
func (u *unrecordedTransitions) see(found []verify.Transition, named []string, now time.Time) {
	since := maps.Clone(u.since)
	if since == nil {
		since = map[verify.Transition]time.Time{}
	}
	maps.DeleteFunc(since, func(t verify.Transition, _ time.Time) bool {
		_, looked := slices.BinarySearch(named, t.Provider)
		return looked
	})
	for _, t := range found {
		first, before := u.since[t]
		if !before {
			first = now
		}
		since[t] = first
	}
	u.since, u.last = since, now
}

// names returns the providers of the transitions, sorted.
func (u *unrecordedTransitions) names() []string {
	var names []string
	for t := range u.since {
		names = append(names, t.Provider)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// overdue returns the transitions that have stayed unrecorded for too long, the oldest
// first, and since when the first of them was seen.
func (u *unrecordedTransitions) overdue() (list []verify.Transition, since time.Time) {
	for t, first := range u.since {
		if u.last.Sub(first) >= u.limit {
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return nil, time.Time{}
	}
	slices.SortFunc(list, func(a, b verify.Transition) int {
		if c := u.since[a].Compare(u.since[b]); c != 0 {
			return c
		}
		return strings.Compare(a.Provider, b.Provider)
	})
	return list, u.since[list[0]]
}

// unrecordedError says that the leader does not record transitions.
func unrecordedError(who lockwait.Holder, list []verify.Transition, since time.Time) error {
	var shown []string
	for _, t := range list[:min(len(list), maxUnrecordedShown)] {
		shown = append(shown, fmt.Sprintf("%q (%s)", t.Provider, t.Kind))
	}
	if more := len(list) - len(shown); more > 0 {
		shown = append(shown, fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf("the leader, %s, has not recorded since %s what changed of %s", who, since.UTC().Format(time.RFC3339), strings.Join(shown, ", "))
}
