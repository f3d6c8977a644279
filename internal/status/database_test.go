package status_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/status"
)

// TestLastVerified collects it as a reader, and then without the privilege for it and
// without the column.
func TestLastVerified(t *testing.T) {
	t.Parallel()
	pool, _ := lived(t)
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), string(script))
	require.NoError(t, err)
	config := pool.Config().ConnConfig
	config.RuntimeParams["role"] = "provwatch_reader"
	reader, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close(context.Background()) })
	after := func(change string) status.Database {
		t.Helper()
		_, err := pool.Exec(t.Context(), change)
		require.NoError(t, err)
		s, err := status.Collect(t.Context(), reader, noKeys, status.Environment{}, everyOfBilling())
		require.NoError(t, err)
		require.Equal(t, livedSummaries, summaries(s))
		require.Nil(t, s.Database.Replica)
		return s.Database
	}
	d := after("")
	require.True(t, d.KeepsVerified)
	require.Nil(t, d.VerifiedAt, "no leader has noted it yet")
	require.Empty(t, d.VerifiedUnread)

	d = after(`UPDATE provwatch.alert_counter SET verified_at = '2026-07-01 14:00+02'`)
	require.Equal(t, time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), *d.VerifiedAt)

	d = after(`REVOKE SELECT (verified_at) ON provwatch.alert_counter FROM provwatch_reader`)
	require.Nil(t, d.VerifiedAt)
	require.Contains(t, d.VerifiedUnread, `GRANT SELECT (verified_at) ON TABLE provwatch.alert_counter TO "provwatch_reader";`)
	require.Contains(t, d.VerifiedUnread, `"worker roles --config /etc/provwatch.yaml --target billing"`)

	// A database that an earlier version has migrated.
	d = after(`ALTER TABLE provwatch.alert_counter DROP COLUMN verified_at`)
	require.False(t, d.KeepsVerified)
	require.Nil(t, d.VerifiedAt)
	require.Empty(t, d.VerifiedUnread)
}

func TestLeaderSession(t *testing.T) {
	t.Parallel()
	t.Run("HoldsItsLock", testLeaderSessionHoldsItsLock)
	t.Run("OfAnotherProgram", testLeaderSessionOfAnotherProgram)
}

// testLeaderSessionHoldsItsLock makes sessions as workers have them. The leader is the
// session that holds its lock.
func testLeaderSessionHoldsItsLock(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	config := pool.Config().ConnConfig
	config.RuntimeParams["application_name"] = "provwatch-listener"
	var pids []int
	for range 2 {
		conn, err := pgx.ConnectConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		pids = append(pids, int(conn.PgConn().PID()))
		_, err = conn.Exec(t.Context(), `SELECT pg_try_advisory_lock(1886874724, 0)`) // of the first term
		require.NoError(t, err)
	}
	s, err := status.Collect(t.Context(), pool, noKeys, status.Environment{}, every)
	require.NoError(t, err)
	require.Len(t, s.Database.Workers, 2)
	leader := s.Database.Leader()
	require.NotNil(t, leader)
	require.Equal(t, pids[0], leader.PID)
	require.WithinDuration(t, time.Now(), *leader.Since, time.Hour)
	require.Empty(t, s.Database.LockHolder)
}

// testLeaderSessionOfAnotherProgram has another program hold it.
func testLeaderSessionOfAnotherProgram(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	config := pool.Config().ConnConfig
	config.RuntimeParams["application_name"] = "a stranger"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), `SELECT pg_try_advisory_lock(1886874724, 0)`) // of the first term
	require.NoError(t, err)
	s, err := status.Collect(t.Context(), pool, noKeys, status.Environment{}, every)
	require.NoError(t, err)
	require.Nil(t, s.Database.Leader())
	require.Contains(t, s.Database.LockHolder, fmt.Sprintf("session %d (role ", conn.PgConn().PID()))
	require.Contains(t, s.Database.LockHolder, `application "a stranger"`)
}
