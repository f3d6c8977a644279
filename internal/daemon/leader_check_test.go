package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/lockwait"
	"provwatch/internal/verify"
)

func TestUnverified(t *testing.T) {
	t.Parallel()
	start := time.Now()
	noted := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	seen := func(term int64, pid int32, at time.Time) leader.Seen {
		return leader.Seen{Term: term, PID: pid, VerifiedAt: at}
	}
	once := seen(1, 7, noted)
	type turn struct {
		at time.Duration
		leader.Seen
	}
	for name, c := range map[string]struct {
		turns []turn
		want  string
	}{
		"once":                      {[]turn{{0, once}}, ""},
		"for a while":               {[]turn{{0, once}, {59 * time.Second, once}}, ""},
		"for long":                  {[]turn{{0, once}, {30 * time.Second, once}, {60 * time.Second, once}}, "the leader, session 7, has not verified everything since 2026-01-02T03:04:05Z"},
		"a later one":               {[]turn{{0, once}, {30 * time.Second, once}, {60 * time.Second, seen(1, 7, noted.Add(time.Second))}}, ""},
		"the next leader":           {[]turn{{0, once}, {30 * time.Second, once}, {60 * time.Second, seen(2, 8, noted)}}, ""},
		"no leader":                 {[]turn{{0, seen(1, 0, noted)}, {30 * time.Second, seen(1, 0, noted)}, {60 * time.Second, seen(1, 0, noted)}}, ""},
		"a standby that was frozen": {[]turn{{0, once}, {30 * time.Second, once}, {time.Hour, once}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := verificationMonitor{limit: time.Minute}
			var err error
			for _, turn := range c.turns {
				err = m.see(turn.Seen, start.Add(turn.at))
			}
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, c.want)
			}
		})
	}
	require.Equal(t, 5*time.Minute+30*time.Second+2*time.Minute, unverifiedAfter(5*time.Minute))
}

func TestUnrecorded(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	a, b := verify.Transition{Provider: "a", Kind: drift.Disabled}, verify.Transition{Provider: "b", Kind: drift.Changed}
	overdue := func(u *unrecordedTransitions) (list []verify.Transition) {
		list, _ = u.overdue()
		return list
	}

	u := unrecordedTransitions{limit: 45 * time.Second}
	require.Empty(t, u.names())
	u.see([]verify.Transition{b, a}, nil, at(0))
	require.Equal(t, []string{"a", "b"}, u.names())
	u.see([]verify.Transition{a, b}, u.names(), at(30))
	require.Empty(t, overdue(&u))
	u.see([]verify.Transition{a}, u.names(), at(45))
	list, since := u.overdue()
	require.Equal(t, []verify.Transition{a}, list, "b is recorded")
	require.Equal(t, at(0), since)
	require.Equal(t, []string{"a"}, u.names())

	other := verify.Transition{Provider: "a", Kind: drift.Missing}
	u.see([]verify.Transition{other}, u.names(), at(60))
	require.Empty(t, overdue(&u), "another transition of the provider")
	u.see(nil, nil, at(200))
	require.Equal(t, []string{"a"}, u.names(), "a look at other providers")
	u.see(nil, u.names(), at(215))
	require.Empty(t, u.names())

	err := unrecordedError(lockwait.Holder{PID: 7, Role: "app"}, []verify.Transition{a, b, other, a, b}, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	require.EqualError(t, err, `the leader, session 7 (role "app"), has not recorded since 2026-01-02T03:04:05Z what changed of "a" (disabled), "b" (changed), "a" (missing), 2 more`)
}

// TestNoLeader has a leader that is silent for longer and longer.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := &leaderCheck{health: &health{}, logger: slog.New(slog.NewTextHandler(&log, nil))}
	logged := func() int { return strings.Count(log.String(), "no live leader is seen") }
	for range 2 {
		before := logged()
		c.NoLeader(errors.New("the leader, session 7, has shown no sign of life for 15s"))
		c.NoLeader(errors.New("the leader, session 7, has shown no sign of life for 20s"))
		c.NoLeader(errors.New("the leader, session 7, has shown no sign of life for 1m5s"))
		require.Equal(t, before+1, logged(), log.String())
		c.NoLeader(errors.New("no worker has led for 15s"))
		c.NoLeader(errors.New("no worker has led for 20s"))
		require.Equal(t, before+2, logged(), log.String())
		c.NoLeader(nil)
	}
}
