package verify_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/seed"
	"provwatch/internal/status"
	"provwatch/internal/verify"
)

// TestOneRowHasOneAnswer draws a row and what was accepted of it. A dry run of a seed,
// verify.Once, a worker and the status then agree on the provider.
func TestOneRowHasOneAnswer(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	desired := []provider.Desired{anthropic("p")}
	ctx, ring := context.Background(), dbcrypt.NewRing(dbcrypt.Keys{})
	page := status.Query{Providers: 10, Alerts: 1, Audit: 1}
	rapid.Check(t, func(rt *rapid.T) {
		exec(t, pool, `TRUNCATE public.ai_providers, public.ai_provider_keys, provwatch.drift_state, provwatch.accepted_drift, provwatch.not_comparable`)
		if rapid.IntRange(0, 5).Draw(rt, "row is missing") > 0 {
			exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url, enabled, deleted, settings) VALUES (gen_random_uuid(), 'anthropic', 'p', $1, $2, $3, $4)`,
				rapid.SampledFrom([]string{"https://h/", "https://other/"}).Draw(rt, "base URL"), rapid.Bool().Draw(rt, "enabled"),
				rapid.IntRange(0, 3).Draw(rt, "deleted") == 0, rapid.SampledFrom([]*string{nil, new("no JSON")}).Draw(rt, "settings"))
		}
		foretold, err := seed.DryRun(ctx, pool, desired, seed.WithKeys(ring))
		require.NoError(rt, err)
		if o := foretold.Steps[0].Observation; o.IsDrift() && o.DBHash != "" && rapid.Bool().Draw(rt, "accepted") {
			exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by) VALUES ('p', $1, $2, $3, 'test')`, string(o.Kind), o.EnvHash, o.DBHash)
		}

		foretold, err = seed.DryRun(ctx, pool, desired, seed.WithKeys(ring))
		require.NoError(rt, err)
		once, err := verify.Once(ctx, pool, desired, ring, drift.IgnoreCredentials, quiet)
		require.NoError(rt, err)
		require.Equal(rt, foretold.Steps[0].Observation, once.Steps[0].Observation)
		require.Equal(rt, foretold.Steps[0].Action, once.Steps[0].Action)
		require.Equal(rt, foretold.Steps[0].IsAccepted(), once.Steps[0].IsAccepted())
		var metrics counter
		v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &metrics)
		v.Decrypt(ring)
		require.NoError(rt, v.Verify(ctx, resync))
		seen, err := status.Collect(ctx, pool, ring, status.EnvironmentOf(desired), page)
		require.NoError(rt, err)
		require.Len(rt, seen.Providers, 1)

		step, state := once.Steps[0], seen.Providers[0].State
		if step.IsDrift() {
			require.Equal(rt, map[drift.Kind]int{step.Observation.Kind: 1}, metrics.drifting)
			require.Equal(rt, step.Observation.Kind, seen.Providers[0].Kind)
		} else {
			require.Empty(rt, metrics.drifting)
		}
		require.Equal(rt, step.IsNotComparable(), len(metrics.notComparable) == 1)
		require.Equal(rt, step.IsNotComparable(), state == status.NotComparable)
		require.Equal(rt, step.IsAccepted(), state == status.Accepted)
		require.Equal(rt, step.IsDrift(), state == status.Drifted || state == status.SoftDeleted)
	})
}
