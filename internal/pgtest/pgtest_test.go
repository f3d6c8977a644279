package pgtest

import (
	"context"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func queryText(t *testing.T, conn *pgx.Conn, sql string) (s string) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&s))
	return s
}

func TestEachDatabaseIsEmptyAndDroppedWithItsSlots(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("Database", func(t *testing.T) {
		u := NewDatabase(t)
		conn := connect(t, u)
		name = queryText(t, conn, "SELECT current_database()::text")
		require.Equal(t, "0", queryText(t, conn, "SELECT count(*)::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"))
		require.Equal(t, "logical", queryText(t, conn, "SHOW wal_level"))
		queryText(t, conn, "SELECT slot_name::text FROM pg_create_logical_replication_slot('"+name+"', 'pgoutput')")
	})
	conn := connect(t, NewDatabase(t))
	require.Equal(t, "0", queryText(t, conn, "SELECT count(*)::text FROM pg_database WHERE datname = '"+name+"'"))
	require.Equal(t, "0", queryText(t, conn, "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = '"+name+"'"))
}

func TestTheURLServesPsqlToo(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip(err)
	}
	u := NewDatabase(t)
	out, err := exec.CommandContext(t.Context(), psql, "-XAtc", "SELECT current_database()", u).CombinedOutput()
	require.NoError(t, err, string(out))
	parsed, err := url.Parse(u)
	require.NoError(t, err)
	require.Equal(t, parsed.Path, "/"+strings.TrimSpace(string(out)))
}

func TestAClusterKeepsItsAddressesAndDataOverARestart(t *testing.T) {
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

func TestTheServersAreThoseOfTheFolderThatIsSet(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PROVWATCH_TEST_POSTGRES", dir)
	c, err := start(nil)
	if err == nil {
		require.NoError(t, c.remove())
	}
	require.ErrorContains(t, err, "looking for PostgreSQL's programs in "+dir)
}

func TestAStandbyStreamsAndTakesOver(t *testing.T) {
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

func TestFrozenProcessesGoOnWhenTheyAreThawed(t *testing.T) {
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

func TestAFullDiskRefusesWritesUntilItIsEmptied(t *testing.T) {
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
