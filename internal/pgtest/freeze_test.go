package pgtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
)

// TestFreezeWaiting freezes a session that waits for a lock at first, which it gets once it was
// stopped for a moment.
func TestFreezeWaiting(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	holder, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer holder.Release()
	_, err = holder.Exec(t.Context(), `SELECT pg_advisory_lock(1)`)
	require.NoError(t, err)
	waiter, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer waiter.Release()
	pid := int(waiter.Conn().PgConn().PID())
	ended := make(chan error, 1)
	go func() {
		_, err := waiter.Exec(t.Context(), `SELECT pg_advisory_lock(1)`)
		ended <- err
	}()
	waittest.Until(t, func() bool {
		var waits bool
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce(wait_event_type = 'Lock', false) FROM pg_stat_activity WHERE pid = $1`, pid).Scan(&waits))
		return waits
	}, "the session waits for the lock")
	released := make(chan error, 1)
	go func() {
		for !pgtest.IsStopped(pid) && t.Context().Err() == nil {
			continue // it is stopped while the server answers
		}
		_, err := holder.Exec(t.Context(), `SELECT pg_advisory_unlock(1)`)
		released <- err
	}()
	thaw := pgtest.FreezeWaiting(t, config.ConnString(), pid)
	require.NoError(t, <-released)
	require.NoError(t, <-ended, "it was not frozen while it waited for the lock")
	require.True(t, pgtest.IsStopped(pid))
	thaw()
	_, err = waiter.Exec(t.Context(), `SELECT`)
	require.NoError(t, err)
	require.False(t, pgtest.IsStopped(pid))
}
