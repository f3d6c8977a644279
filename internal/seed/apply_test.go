package seed_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/rollout"
	"provwatch/internal/seed"
	"provwatch/internal/store"
	"provwatch/internal/waittest"
)

// TestApplyRenewsAcceptance has an operator accept a disabled row that differs, and then an
// environment with the values of that row. A start that applies renews the acceptance, as a
// reload does.
func TestApplyRenewsAcceptance(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	former, now := []provider.Desired{openAI("a", "https://former/"), openAI("b", "https://b/")}, []provider.Desired{openAI("a", "https://row/"), openAI("b", "https://b/")}
	_, err := seed.Seed(t.Context(), pool, former, false, quiet)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://row/', enabled = false WHERE name = 'a'`)
	require.NoError(t, err)
	_, err = reconcile.Resolve(t.Context(), pool, dbcrypttest.NewRing(t), former[:1], reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials})
	require.NoError(t, err)
	accepted := func() []bool {
		t.Helper()
		plan, err := seed.DryRun(t.Context(), pool, now)
		require.NoError(t, err)
		require.Equal(t, []drift.Action{drift.ActionUnchanged, drift.ActionUnchanged}, actions(plan))
		return []bool{plan.Steps[0].IsAccepted(), plan.Steps[1].IsAccepted()}
	}
	require.Equal(t, []bool{false, false}, accepted())

	plan, err := seed.Seed(t.Context(), pool, now, false, quiet, seed.Apply())
	require.NoError(t, err)
	require.Equal(t, []drift.Action{drift.ActionUnchanged, drift.ActionUnchanged}, actions(plan))
	require.Equal(t, []bool{true, false}, accepted())
	require.Len(t, lines(t, pool, `SELECT provider FROM provwatch.audit_outbox WHERE action = 'drift.accept'`), 2)
	require.Equal(t, []string{"a|https://row/|false", "b|https://b/|true"}, lines(t, pool, `SELECT name || '|' || base_url || '|' || enabled FROM public.ai_providers ORDER BY name`))

	before := contents(t, pool)
	_, err = seed.Seed(t.Context(), pool, now, false, quiet, seed.Apply())
	require.NoError(t, err)
	require.Equal(t, before, contents(t, pool))
}

// TestApplyTakesGenerationLast has a gateway hold the row that a start writes, and another worker
// record its environment meanwhile. The start writes last, and its environment is the newest,
// unless that was recorded before.
func TestApplyTakesGenerationLast(t *testing.T) {
	t.Parallel()
	t.Run("New", func(t *testing.T) {
		t.Parallel()
		testApplyTakesGenerationLast(t, false)
	})
	t.Run("RecordedBefore", func(t *testing.T) {
		t.Parallel()
		testApplyTakesGenerationLast(t, true)
	})
}

func testApplyTakesGenerationLast(t *testing.T, recorded bool) {
	pool, _ := pgtest.NewPool(t)
	former, now, others := []provider.Desired{openAI("a", "https://former/")}, []provider.Desired{openAI("a", "https://now/")}, []provider.Desired{openAI("a", "https://others/")}
	_, err := seed.Seed(t.Context(), pool, former, false, quiet, seedsAs())
	require.NoError(t, err)
	hasher, err := store.On(pool).Hasher(t.Context())
	require.NoError(t, err)
	if recorded {
		_, err := rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds).Take(t.Context(), pool, hasher, now)
		require.NoError(t, err)
	}
	before := contents(t, pool)
	gateway, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = gateway.Rollback(context.Background()) }()
	_, err = gateway.Exec(t.Context(), `SELECT FROM public.ai_providers FOR UPDATE`)
	require.NoError(t, err)

	starting, other := rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds), rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds)
	seeded := make(chan error, 1)
	go func() {
		_, err := seed.Seed(context.WithoutCancel(t.Context()), pool, now, false, quiet, seed.Apply(), seed.As(starting))
		seeded <- err
	}()
	waittest.Until(t, func() bool {
		return len(lines(t, pool, `SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%LockProviders%'`)) == 1
	}, "the start waits for the row")
	_, err = other.Take(t.Context(), pool, hasher, others)
	require.NoError(t, err)
	require.NoError(t, gateway.Rollback(t.Context()))
	err = waittest.Receive(t, seeded, "the start has ended")
	if recorded {
		require.True(t, rollout.IsOlder(err), "%v", err)
		require.Equal(t, before, contents(t, pool))
		return
	}
	require.NoError(t, err)
	require.Equal(t, []string{"https://now/"}, lines(t, pool, `SELECT base_url FROM public.ai_providers`))
	require.NoError(t, starting.See(t.Context(), pool, hasher, now))
	require.NoError(t, other.See(t.Context(), pool, hasher, others))
	require.Nil(t, starting.Older())
	require.NotNil(t, other.Older())
}

// TestOlderEnvironmentAppliesNothing has the former environment of a rolling update applied, while
// a gateway holds the row that differs: the start does not wait for it.
func TestOlderEnvironmentAppliesNothing(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	former, newer := []provider.Desired{openAI("a", "https://former/")}, []provider.Desired{openAI("a", "https://newer/")}
	for _, desired := range [][]provider.Desired{former, newer} {
		_, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.Apply(), seedsAs())
		require.NoError(t, err)
	}
	gateway, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = gateway.Rollback(context.Background()) }()
	_, err = gateway.Exec(t.Context(), `SELECT FROM public.ai_providers FOR UPDATE`)
	require.NoError(t, err)
	before := contents(t, pool)
	_, err = seed.Seed(waittest.Context(t), pool, former, false, quiet, seed.Apply(), seedsAs())
	require.True(t, rollout.IsOlder(err), "%v", err)
	require.Equal(t, before, contents(t, pool))
}
