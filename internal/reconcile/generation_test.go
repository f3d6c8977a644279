package reconcile_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/rollout"
)

// TestApplyGeneration has an operator apply with an environment of which everything is refused:
// it does not become the newest one, which would keep running workers from alerting for a time.
func TestApplyGeneration(t *testing.T) {
	t.Parallel()
	at := func(baseURL string) provider.Desired {
		return provider.Desired{Name: "a", Type: provider.OpenAI, BaseURL: baseURL, Variables: "X"}
	}
	pool := seededWith(t, at("https://1/"))
	apply := func() drift.Verdict {
		t.Helper()
		desired := []provider.Desired{at("https://2/")}
		outcomes, err := reconcile.Apply(t.Context(), pool, noKeys, desired, reconcile.ApplyRequest{
			Credentials: drift.IgnoreCredentials, Operator: &reconcile.Operator{User: "test", UID: -1},
			Member: rollout.NewMember(uuid.New(), rollout.Window, rollout.Applies), Environment: desired,
		})
		require.NoError(t, err)
		return outcomes[0].Action
	}
	const known = `SELECT (SELECT count(*) FROM provwatch.environments) || ' ' || (SELECT count(*) FROM provwatch.workers)`
	_, err := pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://3/'`)
	require.NoError(t, err)
	require.Equal(t, drift.ApplyRefused, apply())
	require.Equal(t, "0 0", value(t, pool, known))
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://1/'`)
	require.NoError(t, err)
	require.Equal(t, drift.ApplyUpdate, apply())
	require.Equal(t, "1 1", value(t, pool, known))
}
