package status_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/rollout"
	"provwatch/internal/status"
	"provwatch/internal/store"
)

// TestWorkerEnvironments has workers with three environments, of which one is not recorded, and a
// worker that was last seen long ago. It collects them as a reader, and without the tables.
func TestWorkerEnvironments(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	hasher, err := store.On(pool).Hasher(t.Context())
	require.NoError(t, err)
	member := func(names ...string) *rollout.Member {
		m := rollout.NewMember(uuid.New(), rollout.Window, rollout.Seeds)
		_, err := m.Take(t.Context(), pool, hasher, desired(names...))
		require.NoError(t, err)
		return m
	}
	gone := member("a")
	_, err = pool.Exec(t.Context(), `UPDATE provwatch.workers SET seen_at = now() - interval '1 hour'`)
	require.NoError(t, err)
	older, newest := member("a"), member("a", "b")
	unrecorded := rollout.NewMember(uuid.New(), rollout.Window, rollout.Seeds)
	require.NoError(t, unrecorded.See(t.Context(), pool, hasher, desired("c")))

	reader := asReader(t, pool)
	collect := func() status.Database {
		t.Helper()
		s, err := status.Collect(t.Context(), reader, noKeys, status.Environment{}, every)
		require.NoError(t, err)
		return s.Database
	}
	d := collect()
	require.Len(t, d.Environments, 3)
	first, second, third := d.Environments[0], d.Environments[1], d.Environments[2]
	require.Equal(t, newest.ID().String(), first.Worker)
	require.False(t, first.Older)
	require.WithinDuration(t, time.Now(), *first.Since, time.Hour)
	require.Equal(t, older.ID().String(), second.Worker)
	require.True(t, second.Older)
	require.Less(t, second.Generation, first.Generation)
	require.Equal(t, unrecorded.ID().String(), third.Worker)
	require.Zero(t, third.Generation)
	require.Nil(t, third.Since)
	require.False(t, third.Older)
	require.NotContains(t, []string{first.Worker, second.Worker, third.Worker}, gone.ID().String())
	require.Zero(t, d.OlderEnvironments(), "no worker listens")
	d.Workers = []status.Session{{Leads: true}, {}, {Observes: true}}
	require.Equal(t, 1, d.OlderEnvironments())
	label := "1 worker has an older environment than worker " + first.Worker + " of role R, which is newer since " + first.Since.Format(time.RFC3339)
	require.Equal(t, label, d.OlderLabel(func(string) string { return "R" }))
	d.Environments[2].Older = true
	require.Equal(t, 1, d.OlderEnvironments(), "one of them has ended")
	d.Workers = append(d.Workers, status.Session{})
	require.Contains(t, d.OlderLabel(func(string) string { return "R" }), "2 workers have an older environment than")

	_, err = pool.Exec(t.Context(), `REVOKE SELECT ON provwatch.workers FROM provwatch_reader`)
	require.NoError(t, err)
	require.Nil(t, collect().Environments)
	_, err = pool.Exec(t.Context(), `DROP TABLE provwatch.environments`)
	require.NoError(t, err)
	d = collect()
	require.Nil(t, d.Environments)
	require.Empty(t, d.OlderLabel(nil))
}

// asReader returns a session of the role provwatch_reader.
func asReader(t *testing.T, pool *pgxpool.Pool) *pgx.Conn {
	t.Helper()
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), string(script))
	require.NoError(t, err)
	config := pool.Config().ConnConfig
	config.RuntimeParams["role"] = "provwatch_reader"
	reader, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close(context.Background()) })
	return reader
}
