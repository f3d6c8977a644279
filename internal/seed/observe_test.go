package seed_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/seed"
)

// TestObservedBoot finds what a seed would act on, and writes none of it. The soft-deleted
// provider is the starting state.
func TestObservedBoot(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("a", "https://a/"), openAI("b", "https://b/"), openAI("c", "https://c/")}, false, quiet)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET deleted = true WHERE name = 'c'; DELETE FROM provwatch.audit_outbox`)
	require.NoError(t, err)
	before := contents(t, pool)
	seeded := listen(t, config, pubsub.Seeds)
	desired := []provider.Desired{openAI("a", "https://a/"), openAI("b", "https://other/"), openAI("c", "https://c/"), openAI("new", "https://new/", "key")}
	for range 2 {
		plan, err := seed.Observe(t.Context(), pool, desired, quiet, seed.Announce())
		require.NoError(t, err, "a drift is no error")
		require.Equal(t, []drift.Action{drift.ActionUnchanged, drift.ActionDrifted, drift.ActionStickyDeleted, drift.ActionInsert}, actions(plan))
	}
	require.Equal(t, []string{"c deleted"}, lines(t, pool, `SELECT provider || ' ' || kind FROM provwatch.drift_state`))
	_, err = pool.Exec(t.Context(), `DELETE FROM provwatch.drift_state`)
	require.NoError(t, err)
	require.Equal(t, before, contents(t, pool))
	require.Empty(t, seeded())
}
