package lockwait_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/lockwait"
	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// session is one of the application given.
func session(t *testing.T, url, application string) *pgx.Conn {
	t.Helper()
	config, err := postgres.ParseURL(url)
	require.NoError(t, err)
	config.ConnConfig.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
}

// waits runs a statement that waits, until the test ends.
func waits(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group conc.WaitGroup
	group.Go(func() { _, _ = conn.Exec(ctx, statement) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
}

func databaseOf(t *testing.T, url string) (config *pgxpool.Config, name string) {
	t.Helper()
	config, err := postgres.ParseURL(url)
	require.NoError(t, err)
	return config, config.ConnConfig.Database
}

// found waits until the session is held up, and returns by whom.
func found(t *testing.T, config *pgxpool.Config, waiting *pgx.Conn) (holders lockwait.Holders) {
	t.Helper()
	waittest.Until(t, func() bool {
		var err error
		holders, err = lockwait.Lookup(t.Context(), config, waiting.PgConn().PID())
		require.NoError(t, err)
		return len(holders) > 0
	}, "it is held up")
	return holders
}

// TestHolders has a session that waits for an advisory lock behind another one that waits
// for it too.
func TestHolders(t *testing.T) {
	t.Parallel()
	url := pgtest.NewDatabase(t)
	config, name := databaseOf(t, url)
	first, second, third := session(t, url, "first"), session(t, url, "second"), session(t, url, "third")
	exec(t, first, "SELECT pg_advisory_lock(42)")
	waits(t, second, "SELECT pg_advisory_lock(42)")
	want := fmt.Sprintf(`session %d (role "provwatch", application "first", database %q); SELECT pg_terminate_backend(%d) ends it`, first.PgConn().PID(), name, first.PgConn().PID())
	require.Equal(t, want, found(t, config, second).String())
	waits(t, third, "SELECT pg_advisory_lock(42)")
	require.Equal(t, want, found(t, config, third).String(), "and not the one that waits before it")
	holders, err := lockwait.Lookup(t.Context(), config, first.PgConn().PID())
	require.NoError(t, err)
	require.Empty(t, holders)
	require.Equal(t, "an unknown session", holders.String())
}

func TestSession(t *testing.T) {
	t.Parallel()
	url := pgtest.NewDatabase(t)
	conn, other := session(t, url, "one"), session(t, url, "other")
	pid := int32(other.PgConn().PID())
	described, err := lockwait.Session(t.Context(), conn, pid)
	require.NoError(t, err)
	require.Equal(t, lockwait.Holder{PID: pid, Role: "provwatch", Application: "other", Database: conn.Config().Database}, described)
	require.NoError(t, other.Close(t.Context()))
	waittest.Until(t, func() bool {
		described, err = lockwait.Session(t.Context(), conn, pid)
		require.NoError(t, err)
		return described.Role == ""
	}, "it has ended")
	require.Equal(t, fmt.Sprintf("session %d", pid), described.String())
}
