package pgtest

import (
	"context"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
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

func TestNewDatabase(t *testing.T) {
	t.Parallel()
	t.Run("EmptyAndDropped", testNewDatabaseEmptyAndDropped)
	t.Run("Psql", testNewDatabasePsql)
}

func testNewDatabaseEmptyAndDropped(t *testing.T) {
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

func testNewDatabasePsql(t *testing.T) {
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

func TestPostgresFolder(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PROVWATCH_TEST_POSTGRES", dir)
	c, err := start(nil)
	if err == nil {
		require.NoError(t, c.remove())
	}
	require.ErrorContains(t, err, "looking for PostgreSQL's programs in "+dir)
}
