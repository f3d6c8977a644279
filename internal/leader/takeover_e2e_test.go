//go:build e2e

package leader_test

import (
	"context"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/store"
	"provwatch/internal/waittest"
)

func TestTakeoverFaults(t *testing.T) {
	t.Parallel()
	t.Run("SilentLeader", testTakeoverFaultsSilentLeader)
	t.Run("LongLimit", testTakeoverFaultsLongLimit)
	t.Run("FrozenStandby", testTakeoverFaultsFrozenStandby)
	t.Run("ReplacedTerm", testTakeoverFaultsReplacedTerm)
}

// testTakeoverFaultsSilentLeader freezes a leader by attending no longer. Its
// session stays, and so does its lock.
func testTakeoverFaultsSilentLeader(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := newMember(t, pool), newMember(t, pool)
	former := first.leads()
	term := second.leads()
	require.EqualValues(t, 2, term.Number)
	require.Contains(t, second.noLeader[0], "has shown no sign of life for")
	require.ErrorContains(t, former.Confirm(t.Context(), pool), "later term")
	require.NoError(t, former.Context().Err(), "it does not know yet")

	_, err := first.Attend(t.Context(), first.conn)
	require.ErrorContains(t, err, "later term")
	first.Left(err)
	require.ErrorContains(t, context.Cause(former.Context()), "later term")
	require.NoError(t, term.Confirm(t.Context(), pool))
	sessions, err := store.On(pool).ListWorkers(t.Context(), 1)
	require.NoError(t, err)
	require.Len(t, sessions, 1)
	require.True(t, sessions[0].Leads)
}

// testTakeoverFaultsLongLimit has a leader whose signs
// of life are further apart than the limit of the standby.
func testTakeoverFaultsLongLimit(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := newMember(t, pool), newMember(t, pool)
	first.Elector = leader.NewElector(leader.NewLimits(time.Hour, time.Hour, answer), quiet, first)
	first.leads()
	for began := time.Now(); time.Since(began) < 3*takeOverAfter; {
		second.attend()
		require.Empty(t, second.Terms(), "the next sign of life is not due for five seconds")
	}
}

// testTakeoverFaultsFrozenStandby has a session that gets the lock in the
// server, and whose client does nothing with it.
func testTakeoverFaultsFrozenStandby(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, frozen, third := newMember(t, pool), newMember(t, pool), newMember(t, pool)
	first.leads()
	var group conc.WaitGroup
	group.Go(func() {
		stood, err := store.On(frozen.conn).StandBy(t.Context(), 120_000)
		require.NoError(t, err)
		require.True(t, stood.Ended)
	})
	waittest.Until(t, func() bool {
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1`, frozen.conn.PgConn().PID()).Scan(&n))
		return n == 1
	}, "it waits in the server")
	require.NoError(t, first.conn.Close(t.Context()))
	group.Wait()
	require.EqualValues(t, 2, third.leads().Number)
	require.Contains(t, third.noLeader[0], "is no worker that leads")
}

// testTakeoverFaultsReplacedTerm has somebody else write the row of the terms, as
// a restore does, before and in a term.
func testTakeoverFaultsReplacedTerm(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	exec := func(query string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), query)
		require.NoError(t, err)
	}
	first := newMember(t, pool)
	term := first.leads()
	exec(`UPDATE provwatch.alert_counter SET last_seq = 7, writer = pg_current_xact_id()`)
	standby := newMember(t, pool)
	standby.attend()
	require.EqualValues(t, 7, standby.lastSeq)
	require.Equal(t, first.epoch, standby.epoch)
	stop := first.keepAttending()
	exec(`UPDATE provwatch.alert_counter SET last_seq = 3`)
	<-term.Context().Done()
	require.ErrorIs(t, context.Cause(term.Context()), leader.ErrReplaced)
	stop()
	require.NoError(t, first.conn.Close(t.Context()))

	// The next one finds it so, and leads until it has looked into it.
	next := standby.leads()
	require.NoError(t, next.Context().Err())
	counter, err := store.On(pool).ReadCounter(t.Context())
	require.NoError(t, err)
	require.False(t, counter.Intact)
}
