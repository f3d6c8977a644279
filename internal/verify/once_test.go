package verify_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/verify"
)

// TestOnce has a row of each kind of drift, and credentials that differ, in each mode. A
// single verification agrees with a running worker.
func TestOnce(t *testing.T) {
	t.Parallel()
	desired := []provider.Desired{openAI("changed"), openAI("deleted"), openAI("disabled"), openAI("keys", "key-1"), openAI("missing"), openAI("same"), anthropic("unreadable")}
	for _, mode := range []drift.CredentialMode{drift.IgnoreCredentials, drift.WarnCredentials, drift.AlertCredentials} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			pool, v, metrics := seeded(t, mode, desired...)
			exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://other/' WHERE name = 'changed'`)
			exec(t, pool, `UPDATE public.ai_providers SET deleted = true WHERE name = 'deleted'`)
			exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'disabled'`)
			exec(t, pool, `UPDATE public.ai_provider_keys SET api_key = 'key-2'`)
			exec(t, pool, `DELETE FROM public.ai_providers WHERE name = 'missing'`)
			exec(t, pool, `UPDATE public.ai_providers SET settings = 'no JSON' WHERE name = 'unreadable'`)

			var log strings.Builder
			plan, err := verify.Once(t.Context(), pool, desired, nil, mode, slog.New(slog.NewTextHandler(&log, nil)))
			require.NoError(t, err)
			require.NoError(t, v.Verify(t.Context(), resync))
			drifting, notComparable := map[drift.Kind]int{}, map[string]string{}
			for _, step := range plan.Steps {
				if step.IsDrift() {
					drifting[step.Observation.Kind]++
				}
				if reason := step.Observation.WhyNotComparable(); reason != nil {
					notComparable[step.Desired.Name] = reason.Error()
				}
			}
			require.Equal(t, metrics.drifting, drifting)
			require.Equal(t, metrics.notComparable, notComparable)
			require.Contains(t, drifting, drift.Changed)
			require.Contains(t, notComparable, "unreadable")
			warned := map[drift.CredentialMode]int{drift.WarnCredentials: 1}
			require.Equal(t, warned[mode], strings.Count(log.String(), "credentials in the database differ"), log.String())
			require.NotContains(t, log.String(), "key-1")
		})
	}
}
