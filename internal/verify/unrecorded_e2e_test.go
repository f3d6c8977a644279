//go:build e2e

package verify_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/verify"
)

// TestUnrecorded looks as a standby does, before and after the leader has recorded.
func TestUnrecorded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change string
		kind   drift.Kind
	}{
		"changed":                          {`UPDATE public.ai_providers SET base_url = 'https://other/' WHERE name = 'a'`, drift.Changed},
		"disabled":                         {`UPDATE public.ai_providers SET enabled = false WHERE name = 'a'`, drift.Disabled},
		"deleted":                          {`UPDATE public.ai_providers SET deleted = true WHERE name = 'a'`, drift.Deleted},
		"disabled, with other credentials": {`UPDATE public.ai_providers SET enabled = false WHERE name = 'a'; DELETE FROM public.ai_provider_keys`, drift.Disabled},
		"missing":                          {`DELETE FROM public.ai_providers WHERE name = 'a'`, drift.Missing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			desired := []provider.Desired{openAI("a", "key-1"), openAI("b", "key-2")}
			pool, leader, _ := seeded(t, drift.AlertCredentials, desired...)
			var id uuid.UUID
			require.NoError(t, pool.QueryRow(t.Context(), `SELECT id FROM public.ai_providers WHERE name = 'a'`).Scan(&id))
			standby := verify.New(pool, desired, drift.AlertCredentials, quiet, &counter{})
			look := func(request verify.Request) (kinds []drift.Kind) {
				t.Helper()
				found, err := standby.Unrecorded(t.Context(), request)
				require.NoError(t, err)
				for _, f := range found {
					require.Equal(t, "a", f.Provider)
					kinds = append(kinds, f.Kind)
				}
				return kinds
			}
			hint := verify.Request{ProviderIDs: []uuid.UUID{id}}
			require.Empty(t, look(resync))
			require.Empty(t, look(hint))

			exec(t, pool, c.change)
			require.Equal(t, []drift.Kind{c.kind}, look(resync))
			require.Equal(t, []drift.Kind{c.kind}, look(hint))
			before, err := standby.StillUnrecorded(t.Context(), []string{"a"})
			require.NoError(t, err)
			again, err := standby.StillUnrecorded(t.Context(), []string{"a", "b"})
			require.NoError(t, err)
			require.Equal(t, before, again, "one transition")
			require.Empty(t, alerts(t, pool), "it records nothing")

			require.NoError(t, leader.Verify(t.Context(), resync))
			require.Empty(t, look(resync))
			require.Empty(t, look(hint))
		})
	}
}
