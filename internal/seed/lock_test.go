package seed_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/seed"
	"provwatch/internal/store"
	"provwatch/internal/waittest"
)

func TestSeedLock(t *testing.T) {
	t.Parallel()
	t.Run("Gateway", testSeedLockGateway)
	t.Run("AdvisoryLock", testSeedLockAdvisoryLock)
}

// testSeedLockGateway has a session that takes the gateway's lock, reads and inserts as a
// gateway does.
func testSeedLockGateway(t *testing.T) {
	t.Parallel()
	desired := []provider.Desired{openAI("gpt", "https://h/")}
	waits := func(t *testing.T, db interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}) {
		t.Helper()
		waittest.Until(t, func() bool {
			var waiting bool
			require.NoError(t, db.QueryRow(context.WithoutCancel(t.Context()), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 10 AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waiting))
			return waiting
		}, "somebody waits for the gateway's lock")
	}
	// gateway returns how many rows the gateway finds.
	gateway := func(ctx context.Context, tx pgx.Tx) (found int, err error) {
		if _, err = tx.Exec(ctx, `SELECT pg_advisory_xact_lock(10)`); err == nil {
			err = tx.QueryRow(ctx, `SELECT count(*) FROM public.ai_providers WHERE name = 'gpt'`).Scan(&found)
		}
		return found, err
	}
	type result struct {
		plan drift.Plan
		err  error
	}
	start := func(t *testing.T, pool *pgxpool.Pool) <-chan result {
		ended := make(chan result, 1)
		go func() {
			plan, err := seed.Seed(t.Context(), pool, desired, false, quiet)
			ended <- result{plan, err}
		}()
		return ended
	}
	t.Run("TheGatewayIsFirst", func(t *testing.T) {
		t.Parallel()
		pool, _ := pgtest.NewPool(t)
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		found, err := gateway(t.Context(), tx)
		require.NoError(t, err)
		require.Zero(t, found)
		ended := start(t, pool)
		waits(t, tx)
		_, err = tx.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'gpt', 'https://h/')`)
		require.NoError(t, err)
		require.NoError(t, tx.Commit(t.Context()))
		seeded := waittest.Receive(t, ended, "the seed ends")
		require.NoError(t, seeded.err)
		require.Equal(t, 1, seeded.plan.Count(drift.ActionUnchanged))
	})
	t.Run("TheSeedIsFirst", func(t *testing.T) {
		t.Parallel()
		pool, _ := pgtest.NewPool(t)
		// It stops at its insert.
		holder, err := pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = holder.Exec(t.Context(), `LOCK TABLE public.ai_providers IN SHARE MODE`)
		require.NoError(t, err)
		ended := start(t, pool)
		waittest.Until(t, func() bool {
			var holds bool
			require.NoError(t, holder.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 10 AND granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&holds))
			return holds
		}, "the seed holds the gateway's lock")
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		found := 0
		read := make(chan error, 1)
		go func() {
			var err error
			found, err = gateway(t.Context(), tx)
			read <- err
		}()
		waits(t, holder)
		require.NoError(t, holder.Commit(t.Context()))
		require.NoError(t, waittest.Receive(t, read, "the gateway has read"))
		require.Equal(t, 1, found, "it finds the row of the seed, and inserts none")
		require.NoError(t, tx.Rollback(t.Context()))
		seeded := waittest.Receive(t, ended, "the seed ends")
		require.NoError(t, seeded.err)
	})
}

func testSeedLockAdvisoryLock(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, store.SeedLock)
	require.NoError(t, err)

	limited, cancel := context.WithCancel(t.Context())
	defer cancel()
	seeding := make(chan error, 1)
	go func() {
		_, err := seed.Seed(limited, pool, []provider.Desired{openAI("gpt", "https://h/")}, false, quiet)
		seeding <- err
	}()
	waittest.Until(t, func() bool {
		var waits bool
		require.NoError(t, tx.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waits))
		return waits
	}, "the seed waits")
	cancel()
	require.ErrorIs(t, waittest.Receive(t, seeding, "the seed ends"), context.Canceled)
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://h/")}, false, quiet)
	require.NoError(t, err)
}
