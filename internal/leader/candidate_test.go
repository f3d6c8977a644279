package leader_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
)

// candidate is a [leader.Candidate] that the test decides for.
type candidate struct{ barred, later atomic.Bool }

func (c *candidate) MayLead() bool { return !c.barred.Load() }

// Refresh finds that the worker must not lead where the test has decided so meanwhile.
func (c *candidate) Refresh(context.Context, *pgx.Conn) error {
	if c.later.Load() {
		c.barred.Store(true)
	}
	return nil
}

func TestCandidate(t *testing.T) {
	t.Parallel()
	t.Run("OnlyLooks", testCandidateOnlyLooks)
	t.Run("LeavesTheLock", testCandidateLeavesTheLock)
	t.Run("StepsDown", testCandidateStepsDown)
}

// testCandidateOnlyLooks has a worker that must not lead beside a leader, and then beside none.
func testCandidateOnlyLooks(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := newMember(t, pool), newMember(t, pool)
	var barred candidate
	barred.barred.Store(true)
	second.Ask(&barred)
	term := first.leads()
	next, err := second.Attend(t.Context(), second.conn)
	require.NoError(t, err)
	require.Positive(t, next, "it does not wait in the server")
	require.Equal(t, leader.Seen{Term: 1, PID: int32(term.PID)}, second.seen)
	require.Equal(t, first.epoch, second.epoch)
	contended, err := term.IsContended(t.Context(), pool)
	require.NoError(t, err)
	require.False(t, contended)
	require.Empty(t, second.noLeader)

	require.NoError(t, first.conn.Close(t.Context()))
	waittest.Until(t, func() bool {
		second.attend()
		return len(second.noLeader) > 0
	}, "it sees that no worker leads")
	require.Contains(t, second.noLeader[0], "no worker has led for")
	require.Empty(t, second.Terms())

	barred.barred.Store(false)
	require.EqualValues(t, 2, second.leads().Number)
}

// testCandidateLeavesTheLock has a worker get the lock that it no longer may have.
func testCandidateLeavesTheLock(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := newMember(t, pool), newMember(t, pool)
	var barred candidate
	second.Elector = leader.NewElector(leader.NewLimits(time.Hour, time.Hour, answer), quiet, second)
	second.Ask(&barred)
	term := first.leads()
	second.attend()
	ended := make(chan error, 1)
	go func() {
		for { // a turn can end before the test sees that it waits
			if _, err := second.Attend(context.Background(), second.conn); err != nil || barred.later.Load() {
				ended <- err
				return
			}
		}
	}()
	waittest.Until(t, func() bool {
		contended, err := term.IsContended(t.Context(), pool)
		require.NoError(t, err)
		return contended
	}, "it waits")
	barred.later.Store(true)
	require.NoError(t, first.conn.Close(t.Context()))
	require.NoError(t, waittest.Receive(t, ended, "it has the lock"))
	require.Empty(t, second.Terms())
	require.EqualValues(t, 2, newMember(t, pool).leads().Number, "another one has it")
}

// testCandidateStepsDown has a leader that leaves the term to a standby that waits.
func testCandidateStepsDown(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := newPatientMember(t, pool), newPatientMember(t, pool)
	var barred candidate
	first.Ask(&barred)
	term := first.leads()
	defer second.keepAttending()()
	waittest.Until(t, func() bool {
		contended, err := term.IsContended(t.Context(), pool)
		require.NoError(t, err)
		return contended
	}, "the standby waits")

	barred.barred.Store(true)
	first.StepDown(term)
	first.attend()
	require.ErrorIs(t, context.Cause(term.Context()), leader.ErrSteppedDown)
	next := waittest.Receive(t, second.Terms(), "the standby leads")
	require.EqualValues(t, 2, next.Number)
	waittest.Until(t, func() bool {
		first.attend()
		return first.seen == leader.Seen{Term: 2, PID: int32(next.PID)}
	}, "the former leader sees it, by the same session")
	var held int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype = 'advisory'`, first.conn.PgConn().PID()).Scan(&held))
	require.Zero(t, held)
	require.Error(t, term.Confirm(t.Context(), pool))
}
