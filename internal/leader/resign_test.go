package leader_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
)

// resign gives the term up as a listener does.
func (m *member) resign(term *leader.Term, yield time.Duration) {
	m.t.Helper()
	m.Resign(term, yield)
	_, err := m.Attend(m.t.Context(), m.conn)
	require.ErrorIs(m.t, err, leader.ErrResigned)
	m.Left(err)
	require.ErrorIs(m.t, context.Cause(term.Context()), leader.ErrResigned)
	require.NoError(m.t, m.conn.Close(m.t.Context()))
}

func TestResign(t *testing.T) {
	t.Parallel()
	t.Run("ComesLast", testResignComesLast)
	t.Run("NoSuccessor", testResignNoSuccessor)
}

// testResignComesLast has a leader that resigns and another session that waits.
func testResignComesLast(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := newMember(t, pool), newPatientMember(t, pool)
	term := first.leads()
	contended := func() bool {
		t.Helper()
		contended, err := term.IsContended(t.Context(), pool)
		require.NoError(t, err)
		return contended
	}
	require.False(t, contended())
	second.attend()
	defer second.keepAttending()()
	waittest.Until(t, contended, "the standby is seen")

	first.resign(term, time.Hour)
	next := waittest.Receive(t, second.Terms(), "the standby leads at once")
	require.EqualValues(t, 2, next.Number)

	// On its next session it sees the leader, and is not waited for.
	again := newMember(t, pool)
	first.conn = again.conn
	pause, err := first.Attend(t.Context(), first.conn)
	require.NoError(t, err)
	require.Positive(t, pause, "it rests")
	waittest.Until(t, func() bool {
		pause, err = first.Attend(t.Context(), first.conn)
		require.NoError(t, err)
		return first.seen.Term == 2
	}, "it sees the leader")
	require.Positive(t, pause, "it does not wait in the server")
	require.Empty(t, first.Terms())
}

// testResignNoSuccessor has a leader that resigns and no other worker.
func testResignNoSuccessor(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first := newMember(t, pool)
	first.resign(first.leads(), time.Hour)
	again := newMember(t, pool)
	first.conn = again.conn
	require.EqualValues(t, 2, first.leads().Number)
}
