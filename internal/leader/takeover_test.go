package leader_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/store"
	"provwatch/internal/waittest"
)

func TestTakeover(t *testing.T) {
	t.Parallel()
	t.Run("SignsOfLife", testTakeoverSignsOfLife)
	t.Run("VerifiedEverything", testTakeoverVerifiedEverything)
}

// testTakeoverSignsOfLife sees the leader's signs of life as a standby does.
func testTakeoverSignsOfLife(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := newMember(t, pool), newMember(t, pool)
	term := first.leads()
	defer first.keepAttending()()
	seen := map[int64]bool{}
	waittest.Until(t, func() bool {
		stood, err := store.On(second.conn).StandBy(t.Context(), 1)
		require.NoError(t, err)
		require.False(t, stood.Ended)
		require.EqualValues(t, term.PID, stood.Leader)
		require.Equal(t, term.Number, stood.Term)
		require.GreaterOrEqual(t, stood.Beat, int64(0))
		seen[stood.Beat] = true
		return len(seen) > 3
	}, "each sign is another one")
	waittest.Until(t, func() bool {
		var shown int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE pid = $1 AND classid = 1886872180`, term.PID).Scan(&shown))
		return shown == 1
	}, "the one before is taken back")
}

// testTakeoverVerifiedEverything has a database in which no leader has recorded that it verified
// everything, and then one has.
func testTakeoverVerifiedEverything(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := newMember(t, pool), newMember(t, pool)
	term := first.leads()
	second.attend()
	require.Equal(t, leader.Seen{Term: 1, PID: int32(term.PID)}, second.seen)
	require.NoError(t, store.On(pool).NoteVerified(t.Context(), term.Number))
	var at time.Time
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT verified_at FROM provwatch.alert_counter`).Scan(&at))
	second.attend()
	require.Equal(t, leader.Seen{Term: 1, PID: int32(term.PID), VerifiedAt: at.UTC()}, second.seen)
}
