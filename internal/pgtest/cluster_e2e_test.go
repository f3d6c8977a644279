//go:build e2e

package pgtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	t.Run("Restart", testClusterRestart)
	t.Run("StreamingStandby", testClusterStreamingStandby)
	t.Run("Freeze", testClusterFreeze)
	t.Run("FullDisk", testClusterFullDisk)
}

func testClusterRestart(t *testing.T) {
	t.Parallel()
	c := NewCluster(t)
	u := c.NewDatabase(t)
	_, err := connect(t, u).Exec(t.Context(), "CREATE TABLE t AS SELECT 'kept' AS v")
	require.NoError(t, err)
	tcp := c.TCPURL(t, u, c.TCPAddr())
	for _, mode := range []string{"fast", "immediate"} {
		c.Restart(t, mode)
		require.Equal(t, "kept", queryText(t, connect(t, u), "SELECT v FROM t"), mode)
		require.Equal(t, "kept", queryText(t, connect(t, tcp), "SELECT v FROM t"), mode)
	}
	c.Stop(t, "immediate")
	_, err = pgx.Connect(t.Context(), c.URL())
	require.Error(t, err)
	c.StartAgain(t)
	require.Equal(t, "provwatch", queryText(t, connect(t, c.URL()), "SELECT current_database()::text"))
}

func testClusterStreamingStandby(t *testing.T) {
	t.Parallel()
	first := NewCluster(t)
	_, err := connect(t, first.URL()).Exec(t.Context(), "CREATE TABLE t AS SELECT 'backed up' AS v")
	require.NoError(t, err)
	second := first.NewStreamingStandby(t)
	_, err = connect(t, first.URL()).Exec(t.Context(), "UPDATE t SET v = 'streamed'")
	require.NoError(t, err)
	streamed := func(c *Cluster, want string) {
		t.Helper()
		conn := connect(t, c.URL())
		waittest.Until(t, func() bool { return queryText(t, conn, "SELECT v FROM t") == want }, "%s", want)
	}
	streamed(second, "streamed")
	first.Stop(t, "fast")
	second.Promote(t)
	first.Follow(t, second)
	_, err = connect(t, second.DatabaseURL(first.URL())).Exec(t.Context(), "UPDATE t SET v = 'of the second'")
	require.NoError(t, err)
	streamed(first, "of the second")

	second.Kill(t)
	require.Error(t, second.exec("SELECT 1"))
	second.StartAgain(t)
	putBackAfter := func(change string) {
		second.Stop(t, "fast")
		putBack := second.Save(t)
		second.StartAgain(t)
		_, err := connect(t, second.URL()).Exec(t.Context(), change)
		require.NoError(t, err)
		second.Stop(t, "fast")
		putBack()
		second.StartAgain(t)
	}
	putBackAfter("DROP TABLE t")
	streamed(second, "of the second")
}

func testClusterFreeze(t *testing.T) {
	t.Parallel()
	c := NewCluster(t)
	conn := connect(t, c.URL())
	processes := c.Freeze(t)
	require.Contains(t, processes, int(conn.PgConn().PID()))
	limited, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, conn.Ping(limited))
	c.Thaw(processes...)
	conn = connect(t, c.URL())
	pid := int(conn.PgConn().PID())
	require.True(t, c.FreezeSession(pid))
	c.Thaw(pid)
	require.NoError(t, conn.Ping(t.Context()))
	require.False(t, c.FreezeSession(1))
}

func testClusterFullDisk(t *testing.T) {
	t.Parallel()
	c := NewClusterWith(t, Options{DiskSize: "256m"})
	conn := connect(t, c.URL())
	empty, filled := c.FillDisk(t)
	if !filled {
		t.Skip("no disk can be mounted here")
	}
	_, err := conn.Exec(t.Context(), "CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
	require.Error(t, err)
	empty()
	c.Revive(t)
	_, err = connect(t, c.URL()).Exec(t.Context(), "CREATE TABLE t AS SELECT 1")
	require.NoError(t, err)
}
