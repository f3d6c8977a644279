package pgtest_test

import (
	"os"
	"strconv"
	"strings"
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
	isStopped := func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err == nil && strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " T")
	}
	released := make(chan error, 1)
	go func() {
		for !isStopped() && t.Context().Err() == nil {
			continue // it is stopped while the server answers
		}
		_, err := holder.Exec(t.Context(), `SELECT pg_advisory_unlock(1)`)
		released <- err
	}()
	thaw := pgtest.FreezeWaiting(t, config.ConnString(), pid)
	require.NoError(t, <-released)
	require.NoError(t, <-ended, "it was not frozen while it waited for the lock")
	require.True(t, isStopped())
	thaw()
	_, err = waiter.Exec(t.Context(), `SELECT`)
	require.NoError(t, err)
	require.False(t, isStopped())
}
