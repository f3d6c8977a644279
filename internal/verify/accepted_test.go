package verify_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
)

func TestAccepted(t *testing.T) {
	t.Parallel()
	t.Run("OtherEnvironment", testAcceptedOtherEnvironment)
	t.Run("DisabledProvider", testAcceptedDisabledProvider)
	t.Run("UntilEitherSideChanges", testAcceptedUntilEitherSideChanges)
	t.Run("UntilItsEnd", testAcceptedUntilItsEnd)
}

// testAcceptedUntilItsEnd checks that an acceptance that has expired holds no more: for a
// verification, for a change that the WAL shows and for a single comparison. A standby
// leaves the alert to the leader.
func testAcceptedUntilItsEnd(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, v)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	accept := func() {
		t.Helper()
		exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by, expires_at)
			SELECT provider, 'disabled', env_hash, db_hash, 'test', now() + interval '1 hour' FROM provwatch.drift_state`)
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	drifts := func() bool {
		t.Helper()
		plan, err := verify.Once(t.Context(), pool, []provider.Desired{openAI("a")}, nil, drift.IgnoreCredentials, quiet)
		require.NoError(t, err)
		return plan.Steps[0].IsDrift()
	}
	accept()
	require.False(t, drifts())
	exec(t, pool, `UPDATE provwatch.accepted_drift SET expires_at = now()`)
	require.True(t, drifts())
	due, err := v.Unrecorded(t.Context(), resync)
	require.NoError(t, err)
	require.Empty(t, due)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.NoError(t, v.Verify(t.Context(), resync))
	want := []string{"1 disabled a resync", "2 resolved a resync", "3 disabled a resync"}
	require.Equal(t, want, alerts(t, pool))
	require.Equal(t, "0", value(t, pool, `SELECT count(*)::text FROM provwatch.accepted_drift`))

	accept()
	want = append(want, "4 resolved a resync")
	exec(t, pool, `UPDATE provwatch.accepted_drift SET expires_at = now()`)
	observed, err := v.Observe(t.Context(), []string{"a"})
	require.NoError(t, err)
	observed[0].Commit = &pubsub.Commit{LSN: "0/10", XID: 7, CommittedAt: time.Unix(1, 0)}
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
		return err
	}))
	require.Equal(t, append(want, "5 disabled a wal"), alerts(t, pool))

	// An acceptance that was given another end meanwhile is not withdrawn.
	accept()
	exec(t, pool, `UPDATE provwatch.accepted_drift SET expires_at = now() + interval '1 day'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, "1", value(t, pool, `SELECT count(*)::text FROM provwatch.accepted_drift`))
}

// testAcceptedOtherEnvironment checks that an acceptance for another environment is left
// alone.
func testAcceptedOtherEnvironment(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://db/'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		SELECT provider, kind, env_hash, db_hash, 'test' FROM provwatch.drift_state`)
	other := openAI("a")
	other.BaseURL = "https://another-environment/"
	require.NoError(t, verify.New(pool, []provider.Desired{other}, drift.IgnoreCredentials, quiet, &counter{}).Verify(t.Context(), resync))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a resync", "2 changed a resync", "3 resolved a resync"}, alerts(t, pool))
}

// testAcceptedDisabledProvider checks that the acceptance of a disabled provider ends when
// it is enabled.
func testAcceptedDisabledProvider(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		SELECT provider, kind, env_hash, db_hash, 'test' FROM provwatch.drift_state`)
	for _, enabled := range []bool{false, true, false} {
		exec(t, pool, `UPDATE public.ai_providers SET enabled = $1`, enabled)
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	require.Equal(t, []string{"1 disabled a resync", "2 resolved a resync", "3 disabled a resync"}, alerts(t, pool))
}

// testAcceptedUntilEitherSideChanges checks that an accepted drift is in sync until either
// side changes.
func testAcceptedUntilEitherSideChanges(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://db/'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		SELECT provider, kind, env_hash, db_hash, 'test' FROM provwatch.drift_state`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a resync", "2 resolved a resync"}, alerts(t, pool))

	// Another kind of drift was not accepted.
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = true`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"3 disabled a resync", "4 resolved a resync"}, alerts(t, pool)[2:])

	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://db-2/'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://db/'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"5 changed a resync", "6 changed a resync"}, alerts(t, pool)[4:], "it does not hold again once a side has changed")
}
