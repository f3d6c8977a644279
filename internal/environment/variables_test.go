package environment

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVariables(t *testing.T) {
	legacy, indexed := Variables()
	require.Len(t, legacy, len(legacyFields))
	require.Len(t, indexed, len(indexedFields))
	described, defaulted := map[string]bool{}, map[string]string{}
	for _, v := range append(legacy, indexed...) {
		require.NotEmpty(t, v.Meaning, v.Field)
		described[v.Field] = true
		if v.Default != "" {
			defaulted[v.Field] = v.Default
		}
	}
	require.Len(t, fieldMeanings, len(described), "a meaning without a field")

	// The defaults are those that the parser has.
	env, err := Parse(map[string]string{prefix + "OPENAI_KEY": "k", prefix + "ANTHROPIC_KEY": "k"})
	require.NoError(t, err)
	bedrock, err := Parse(map[string]string{prefix + "BEDROCK_REGION": "r"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"ANTHROPIC_BASE_URL":       env.Providers[0].BaseURL,
		"OPENAI_BASE_URL":          env.Providers[1].BaseURL,
		"BEDROCK_MODEL":            bedrock.Providers[0].Bedrock.Model,
		"BEDROCK_SMALL_FAST_MODEL": bedrock.Providers[0].Bedrock.SmallFastModel,
	}, defaulted)
}
