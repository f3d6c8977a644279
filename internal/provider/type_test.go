package provider_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/provider"
)

func TestTypeOrder(t *testing.T) {
	require.Equal(t, []provider.Type{"anthropic", "azure", "bedrock", "copilot", "google", "openai", "openai-compat", "openrouter", "vercel"}, provider.Types())
}
