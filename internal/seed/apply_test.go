package seed_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/seed"
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
