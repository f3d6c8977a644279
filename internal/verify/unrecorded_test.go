package verify_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/verify"
)

// TestUnrecordedElsewhere has transitions that the leader has no part in.
func TestUnrecordedElsewhere(t *testing.T) {
	t.Parallel()
	pool, _, _ := seeded(t, drift.IgnoreCredentials, openAI("a", "key-1"), openAI("b", "key-2"))
	unrecorded := func(desired ...provider.Desired) []verify.Transition {
		t.Helper()
		found, err := verify.New(pool, desired, drift.AlertCredentials, quiet, &counter{}).Unrecorded(t.Context(), resync)
		require.NoError(t, err)
		return found
	}
	other := openAI("a", "key-1")
	other.BaseURL = "https://other/"
	require.Empty(t, unrecorded(other, openAI("new", "key-3")), "of another environment")
	exec(t, pool, `DELETE FROM public.ai_provider_keys`)
	require.Empty(t, unrecorded(openAI("a", "key-1"), openAI("b", "key-2")), "of credentials, which the leader ignores")
}
