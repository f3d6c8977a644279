//go:build e2e

package verify_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// TestReloadBesideVerification has verifications that wait for a locked table while a
// reload replaces the environment, and with it the row is changed. What is recorded agrees
// with the environment after the reload.
func TestReloadBesideVerification(t *testing.T) {
	t.Parallel()
	none := func(_ []verify.Transition, err error) error { return err }
	for name, do := range map[string]func(context.Context, *verify.Verifier, uuid.UUID) error{
		"all": func(ctx context.Context, v *verify.Verifier, _ uuid.UUID) error { return v.Verify(ctx, resync) },
		"a hint": func(ctx context.Context, v *verify.Verifier, id uuid.UUID) error {
			return v.Verify(ctx, verify.Request{ProviderIDs: []uuid.UUID{id}, Source: pubsub.SourceNotify})
		},
		"on a standby": func(ctx context.Context, v *verify.Verifier, id uuid.UUID) error {
			return none(v.Unrecorded(ctx, verify.Request{ProviderIDs: []uuid.UUID{id}}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, v, metrics := seeded(t, drift.IgnoreCredentials, at("a", "https://1/"), openAI("b"))
			id := idOf(t, pool, "a")
			v.AnswerWithin(waittest.Patience)
			tx := lockProviders(t, pool)
			verified := make(chan error, 1)
			go func() { verified <- do(t.Context(), v, id) }()
			waittest.Until(t, func() bool { return waiting(t, pool) == "1" }, "the verification waits for the table")

			v.SetDesired([]provider.Desired{at("a", "https://2/"), openAI("b")})
			require.Equal(t, "1", waiting(t, pool), "the verification still waits")
			require.Empty(t, verified)
			require.Equal(t, 2, v.Providers())
			kept, _ := v.Named("a")
			require.Equal(t, "https://2/", kept.BaseURL)

			_, err := tx.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://2/' WHERE name = 'a'`)
			require.NoError(t, err)
			require.NoError(t, tx.Commit(t.Context()))
			require.NoError(t, waittest.Receive(t, verified, "the verification ends"))
			require.NoError(t, v.Verify(t.Context(), reload))
			require.Empty(t, alerts(t, pool), "neither side drifts from the other at any time")
			require.Empty(t, metrics.drifting)

			exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://1/' WHERE name = 'a'`)
			require.NoError(t, v.Verify(t.Context(), resync))
			require.Equal(t, []string{"1 changed a resync"}, alerts(t, pool))
		})
	}
}
