package daemon

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/listener"
	"provwatch/internal/pgtest"
)

// TestOnlyTheSessionThatHoldsTheLeadersLockNotesThatEverythingWasVerified lets a
// worker note it that takes itself for the leader.
func TestOnlyTheSessionThatHoldsTheLeadersLockNotesThatEverythingWasVerified(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	session, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.Close(context.Background()) })
	verifiedAt := func() (at *time.Time) {
		t.Helper()
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT verified_at FROM provwatch.alert_counter`).Scan(&at))
		return at
	}
	leader := func() *daemon {
		d := &daemon{Options: Options{Logger: slog.New(slog.DiscardHandler)}, pool: pool}
		d.session.Store(session.PgConn().PID())
		d.leads.Store(true)
		return d
	}
	leader().noteVerified(t.Context())
	require.Nil(t, verifiedAt(), "it no longer leads, and has not noticed")

	_, err = session.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, listener.LeaderLock)
	require.NoError(t, err)
	standby := leader()
	standby.leads.Store(false)
	standby.noteVerified(t.Context())
	require.Nil(t, verifiedAt())

	d := leader()
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
