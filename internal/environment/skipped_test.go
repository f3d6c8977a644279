package environment_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/environment"
)

// TestSkipped has entries of unknown types: the environment names them all the same.
func TestSkipped(t *testing.T) {
	t.Parallel()
	read, err := environment.Parse(map[string]string{
		"CODER_AIBRIDGE_PROVIDER_0_TYPE": "mistral", "CODER_AIBRIDGE_PROVIDER_0_NAME": "mis", "CODER_AIBRIDGE_PROVIDER_1_TYPE": "cohere",
		"CODER_AIBRIDGE_PROVIDER_2_TYPE": "Other Type", "CODER_AIBRIDGE_PROVIDER_3_TYPE": "openai", "CODER_AIBRIDGE_PROVIDER_3_NAME": "a",
	})
	require.NoError(t, err)
	require.Equal(t, []string{"mis", "cohere"}, read.Skipped)
	require.Equal(t, []string{"a", "mis", "cohere"}, read.Names())
}
