package daemon

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
)

// TestOnlyTheLeaderOfTheCurrentTermNotesThatEverythingWasVerified lets a worker note it
// that takes itself for the leader.
func TestOnlyTheLeaderOfTheCurrentTermNotesThatEverythingWasVerified(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	verifiedAt := func() (at *time.Time) {
		t.Helper()
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT verified_at FROM provwatch.alert_counter`).Scan(&at))
		return at
	}
	_, err := pool.Exec(t.Context(), `UPDATE provwatch.alert_counter SET term = 7`)
	require.NoError(t, err)
	leads := func(term int64) *daemon {
		d := &daemon{Options: Options{Logger: slog.New(slog.DiscardHandler)}, pool: pool}
		d.term.Store(&leader.Term{Number: term})
		return d
	}
	leads(6).noteVerified(t.Context())
	require.Nil(t, verifiedAt(), "it no longer leads, and has not noticed")

	standby := leads(7)
	standby.term.Store(nil)
	standby.noteVerified(t.Context())
	require.Nil(t, verifiedAt())

	d := leads(7)
	d.noteVerified(t.Context())
	first := verifiedAt()
	require.NotNil(t, first)
	d.noted = time.Now().Add(time.Hour) // however slow the machine is
	d.noteVerified(t.Context())
	require.Equal(t, first, verifiedAt(), "a flood of verifications is none of writes")
	d.noted = time.Time{}
	d.noteVerified(t.Context())
	require.True(t, verifiedAt().After(*first))
}
