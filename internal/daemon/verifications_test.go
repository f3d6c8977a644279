package daemon

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
)

// TestNoteVerified requires that only the leader of the current term records that everything
// was verified. A worker that takes itself for the leader records nothing.
func TestNoteVerified(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	verifiedAt := func() (at *time.Time) {
		t.Helper()
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT verified_at FROM provwatch.alert_counter`).Scan(&at))
		return at
	}
	_, err := pool.Exec(t.Context(), `UPDATE provwatch.alert_counter SET term = 7`)
	require.NoError(t, err)
	leads := func(term int64) *verifications {
		v := &verifications{logger: slog.New(slog.DiscardHandler), pool: pool, leadership: &leadership{}}
		v.leadership.term.Store(&leader.Term{Number: term})
		return v
	}
	leads(6).record(t.Context())
	require.Nil(t, verifiedAt(), "it no longer leads, and has not noticed")

	standby := leads(7)
	standby.leadership.term.Store(nil)
	standby.record(t.Context())
	require.Nil(t, verifiedAt())

	v := leads(7)
	v.record(t.Context())
	first := verifiedAt()
	require.NotNil(t, first)
	v.recorded = time.Now().Add(time.Hour) // however slow the machine is
	v.record(t.Context())
	require.Equal(t, first, verifiedAt(), "a flood of verifications is none of writes")
	v.recorded = time.Time{}
	v.record(t.Context())
	require.True(t, verifiedAt().After(*first))
}
