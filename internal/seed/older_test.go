package seed_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/rollout"
	"provwatch/internal/seed"
)

// seedsAs is a seed of a start of a worker.
func seedsAs() seed.Option {
	return seed.As(rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds))
}

const (
	generationsQuery = `SELECT generation::text FROM provwatch.environments ORDER BY generation`
	workersQuery     = `SELECT worker::text FROM provwatch.workers`
)

// TestOlderEnvironment seeds from the former environment of a rolling update.
func TestOlderEnvironment(t *testing.T) {
	t.Parallel()
	t.Run("SeedsNothing", testOlderEnvironmentSeedsNothing)
	t.Run("FailedSeed", testOlderEnvironmentFailedSeed)
	t.Run("Observer", testOlderEnvironmentObserver)
}

func testOlderEnvironmentSeedsNothing(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	former := []provider.Desired{openAI("a", "https://a/"), openAI("gone", "https://gone/", "key"), openAI("deleted", "https://h/")}
	newer := []provider.Desired{openAI("a", "https://new/"), openAI("b", "https://b/")}
	for range 2 {
		_, err := seed.Seed(t.Context(), pool, former, false, quiet, seedsAs())
		require.NoError(t, err)
	}
	require.Len(t, lines(t, pool, generationsQuery), 1, "the environment is the newest")
	require.Len(t, lines(t, pool, workersQuery), 2)
	_, err := pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://new/' WHERE name = 'a'; DELETE FROM public.ai_providers WHERE name = 'gone';
		UPDATE public.ai_providers SET deleted = true WHERE name = 'deleted'`)
	require.NoError(t, err)
	_, err = seed.Seed(t.Context(), pool, newer, false, quiet, seedsAs())
	require.NoError(t, err)

	before, generations := contents(t, pool), lines(t, pool, generationsQuery)
	require.Len(t, generations, 2)
	for _, tolerates := range []bool{false, true} {
		plan, err := seed.Seed(t.Context(), pool, former, tolerates, quiet, seedsAs())
		var older *rollout.OlderError
		require.ErrorAs(t, err, &older)
		require.Equal(t, []drift.Action{drift.ActionDrifted, drift.ActionInsert, drift.ActionStickyDeleted}, actions(plan), "the drift is no error")
	}
	require.Equal(t, before, contents(t, pool))
	require.Equal(t, generations, lines(t, pool, generationsQuery))

	// After a rollback it is a seed like any other.
	_, err = pool.Exec(t.Context(), `UPDATE provwatch.workers SET seen_at = seen_at - interval '1 hour'`)
	require.NoError(t, err)
	_, err = seed.Seed(t.Context(), pool, former, true, quiet, seedsAs())
	require.NoError(t, err)
	require.Len(t, lines(t, pool, `SELECT name FROM public.ai_providers WHERE name = 'gone'`), 1)
	require.Greater(t, lines(t, pool, generationsQuery)[1], generations[1])
}

// testOlderEnvironmentFailedSeed has a seed that a drift breaks off: its environment gets no
// generation.
func testOlderEnvironmentFailedSeed(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("a", "https://a/")}, false, quiet, seedsAs())
	require.NoError(t, err)
	generations, workers := lines(t, pool, generationsQuery), lines(t, pool, workersQuery)
	_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("a", "https://other/")}, false, quiet, seedsAs())
	var drifted *seed.DriftError
	require.ErrorAs(t, err, &drifted)
	require.Equal(t, generations, lines(t, pool, generationsQuery))
	require.Equal(t, workers, lines(t, pool, workersQuery))
}

func testOlderEnvironmentObserver(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	former, newer := []provider.Desired{openAI("a", "https://a/")}, []provider.Desired{openAI("a", "https://a/"), openAI("b", "https://b/")}
	observes := func() seed.Option {
		return seed.As(rollout.NewMember(uuid.New(), time.Minute, rollout.Observes))
	}
	_, err := seed.Seed(t.Context(), pool, former, false, quiet, seedsAs())
	require.NoError(t, err)
	_, err = seed.Observe(t.Context(), pool, newer, quiet, observes())
	require.NoError(t, err)
	require.Len(t, lines(t, pool, generationsQuery), 1, "it gets no generation")
	_, err = seed.Seed(t.Context(), pool, newer, false, quiet, seedsAs())
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET deleted = true WHERE name = 'a'`)
	require.NoError(t, err)
	_, err = seed.Observe(t.Context(), pool, former, quiet, observes())
	require.True(t, rollout.IsOlder(err))
	require.Empty(t, lines(t, pool, `SELECT provider FROM provwatch.drift_state`), "it records no starting state")
}
