package test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFieldNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := environ{
		"CODER_AIBRIDGE_PROVIDER_0_Type": "openai",
		"CODER_AIBRIDGE_PROVIDER_0_Name": "test",
		"CODER_AIBRIDGE_PROVIDER_0_keys": w.secret(openAIKey),
		"CODER_AIBRIDGE_Anthropic_Key":   w.secret(anthropicKey),
	}
	r := w.run(env, "seed")
	require.Equal(t, 0, r.code, r.stderr)
	require.NotContains(t, r.stderr, "level=WARN")
	require.Equal(t, []string{"anthropic 1", "test 1"},
		w.strings(`SELECT name || ' ' || (SELECT count(*) FROM ai_provider_keys WHERE provider_id = p.id) FROM ai_providers p ORDER BY name`))

	// Two spellings of one field are an error, equal values included.
	r = w.run(env.with("CODER_AIBRIDGE_PROVIDER_0_NAME", "test"), "run")
	require.Equal(t, result{3, "", "worker: 1 error in the environment:\n" +
		"  CODER_AIBRIDGE_PROVIDER_0_Name: spells the field of CODER_AIBRIDGE_PROVIDER_0_NAME in another way; remove one of them\n"}, r)
}
