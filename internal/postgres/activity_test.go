package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/waittest"
)

func watchedPool(t *testing.T) (*pgxpool.Pool, *postgres.Activity) {
	t.Helper()
	config, err := postgres.ParseURL(pgtest.NewDatabase(t))
	require.NoError(t, err)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, postgres.ActivityOf(config.ConnConfig)
}

// oldest returns what has lasted for no time at least.
func oldest(activity *postgres.Activity) (postgres.Wait, bool) {
	return activity.Oldest(time.Now().Add(time.Millisecond), 0)
}

func TestActivity(t *testing.T) {
	t.Parallel()
	t.Run("EveryStatement", testActivityEveryStatement)
	t.Run("BoundedStatement", testActivityBoundedStatement)
	t.Run("ExpectedTime", testActivityExpectedTime)
	t.Run("Progress", testActivityProgress)
}

// testActivityEveryStatement runs a statement of each kind.
func testActivityEveryStatement(t *testing.T) {
	t.Parallel()
	pool, activity := watchedPool(t)
	for what, run := range map[string]func(context.Context) error{
		"a statement (Sleep)": func(ctx context.Context) error {
			_, err := pool.Exec(ctx, "-- name: Sleep :exec\nSELECT pg_sleep(600)")
			return err
		},
		"a statement (SELECT pg_sleep(600))": func(ctx context.Context) error {
			rows, err := pool.Query(ctx, "-- A comment.\nSELECT pg_sleep(600)")
			if err == nil {
				rows.Close()
				err = rows.Err()
			}
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var group conc.WaitGroup
		group.Go(func() { _ = run(ctx) })
		waittest.Until(t, func() bool {
			wait, found := oldest(activity)
			return found && wait.What == what && wait.PID > 0 && !wait.Late
		}, "%s is known", what)
		_, found := activity.Oldest(time.Now(), time.Hour)
		require.False(t, found, "it has not lasted for so long")
		cancel()
		group.Wait()
		_, found = oldest(activity)
		require.False(t, found, "it has ended")
	}
}

func testActivityBoundedStatement(t *testing.T) {
	t.Parallel()
	pool, activity := watchedPool(t)
	ctx := postgres.Bounded(t.Context(), 100*time.Millisecond)
	_, err := pool.Exec(ctx, "SELECT pg_sleep(600)")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, ctx.Err())
	var held []*pgxpool.Conn
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	_, err = pool.Exec(ctx, "SELECT 1")
	require.ErrorIs(t, err, context.DeadlineExceeded, "nor does it wait longer for a connection")
	for _, conn := range held {
		conn.Release()
	}
	_, err = pool.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err)
	_, found := oldest(activity)
	require.False(t, found)
}

func testActivityExpectedTime(t *testing.T) {
	t.Parallel()
	pool, activity := watchedPool(t)
	during := func(ctx context.Context, check func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(ctx)
		var group conc.WaitGroup
		group.Go(func() { _, _ = pool.Exec(ctx, "SELECT pg_sleep(600)") })
		check()
		cancel()
		group.Wait()
	}
	during(postgres.Expect(t.Context(), time.Hour), func() {
		waittest.Until(t, func() bool {
			wait, found := activity.Oldest(time.Now().Add(2*time.Hour), 0)
			return found && wait.PID > 0 && wait.Late
		}, "it is late after that time")
		_, found := activity.Oldest(time.Now().Add(time.Minute), 0)
		require.False(t, found, "and not before")
	})
	running := func() int {
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT pg_sleep(600)' AND state = 'active'`).Scan(&n))
		return n
	}
	during(postgres.Aside(t.Context()), func() {
		waittest.Until(t, func() bool { return running() == 1 }, "it runs")
		_, found := oldest(activity)
		require.False(t, found, "no alert depends on it")
	})
}

// testActivityProgress has a part that sends statements and lasts for long.
func testActivityProgress(t *testing.T) {
	t.Parallel()
	pool, activity := watchedPool(t)
	handling, end := activity.Handle(t.Context(), "the handling")
	began := time.Now()
	_, err := pool.Exec(t.Context(), "SELECT pg_sleep(0.2)")
	require.NoError(t, err)
	_, found := activity.Oldest(began.Add(time.Hour+100*time.Millisecond), time.Hour)
	require.True(t, found, "a statement of something else is no progress")
	_, err = pool.Exec(handling, "SELECT pg_sleep(0.2)")
	require.NoError(t, err)
	_, found = activity.Oldest(began.Add(time.Hour+100*time.Millisecond), time.Hour)
	require.False(t, found, "a statement has ended since")
	wait, found := activity.Oldest(time.Now().Add(2*time.Hour), time.Hour)
	require.True(t, found)
	require.Equal(t, "the handling", wait.What)
	end()
	_, found = activity.Oldest(time.Now().Add(2*time.Hour), time.Hour)
	require.False(t, found)

	end = activity.Begin("the start", 7)
	_, err = pool.Exec(t.Context(), "SELECT pg_sleep(0.2)")
	require.NoError(t, err)
	wait, found = activity.Oldest(time.Now(), 100*time.Millisecond)
	require.True(t, found, "statements of others are no progress of it")
	require.Equal(t, postgres.Wait{What: "the start", PID: 7, Since: wait.Since, Late: true}, wait)
	end()

	end = activity.BeginSlow("the stream", 7)
	_, found = activity.Oldest(time.Now().Add(time.Hour+time.Minute), time.Hour)
	require.False(t, found)
	_, found = activity.Oldest(time.Now().Add(2*time.Hour+time.Minute), time.Hour)
	require.True(t, found)
	end()
}
