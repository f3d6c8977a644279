//go:build e2e

package golden

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// mixed names a provider of each state that [world.mix] gives its row.
func mixed() environ {
	env := environ{}
	for i, p := range []map[string]string{
		{"TYPE": "openai", "NAME": "fresh", "BASE_URL": "https://user:" + urlPassword + "@fresh.example/v1?k=1", "KEYS": openAIKey + "," + rotatedKey},
		{"TYPE": "anthropic", "NAME": "moved", "BEDROCK_REGION": "eu-west-1", "BEDROCK_ACCESS_KEY": awsKey, "BEDROCK_ACCESS_KEY_SECRET": awsSecret},
		{"TYPE": "openai", "NAME": "edited", "BASE_URL": "https://edited.example/v1"},
		{"TYPE": "openai", "NAME": "retired", "BASE_URL": "https://retired.example/v1"},
		{"TYPE": "openai", "NAME": "same", "BASE_URL": "https://same.example/v1", "KEY": openAIKey},
		{"TYPE": "openai", "NAME": "kept", "BASE_URL": "https://kept.example/v1"},
		{"TYPE": "openai", "NAME": "off", "BASE_URL": "https://off.example/v1"},
		{"TYPE": "azure", "NAME": "later", "BASE_URL": "https://later.example/v1"},
	} {
		for name, value := range p {
			env["CODER_AIBRIDGE_PROVIDER_"+string(rune('0'+i))+"_"+name] = value
		}
	}
	return env
}

// mix inserts the rows of [mixed], inserts a row without variables, and accepts a drift.
func (w *world) mix() {
	w.t.Helper()
	w.exec(`INSERT INTO ai_providers (id, type, name, base_url) VALUES
		(gen_random_uuid(), 'anthropic', 'moved', ''), (gen_random_uuid(), 'anthropic', 'edited', 'https://elsewhere.example/v1'),
		(gen_random_uuid(), 'openai', 'retired', 'https://retired.example/v1'), (gen_random_uuid(), 'openai', 'same', 'https://same.example/v1'),
		(gen_random_uuid(), 'openai', 'kept', 'https://by-the-operator.example/v1'), (gen_random_uuid(), 'openai', 'off', 'https://off.example/v1'),
		(gen_random_uuid(), 'openai', 'by-hand', 'https://other.example/v1')`)
	w.exec(`UPDATE ai_providers SET settings = '{"_type": "bedrock", "_version": 1, "region": "us-east-1"}' WHERE name = 'moved'`)
	w.exec(`UPDATE ai_providers SET deleted = true WHERE name = 'retired'`)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'off'`)
	w.exec(`INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $1 FROM ai_providers WHERE name = 'same'`, rotatedKey)
	r := w.run(mixed(), "resolve", "kept", "--take", "db")
	require.Equal(w.t, 0, r.Code, r.Stderr)
}

func testCommandsMixed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "notify")
	require.Equal(t, 0, w.run(nil, "migrate").Code)
	w.mix()
	var seed, verify, status transcript
	seed.w, verify.w, status.w = w, w, w
	seed.run(mixed(), "seed", "--dry-run")
	seed.run(mixed(), "seed", "--dry-run", "-o", "json")
	seed.run(mixed(), "seed")
	verify.run(mixed(), "verify")
	verify.run(mixed(), "verify", "-o", "json")
	verify.run(mixed(), "verify", "--credential-drift=warn")
	verify.run(mixed(), "verify", "--credential-drift=alert")
	verify.run(mixed(), "verify", "--compat=upstream-credentials")
	status.note("no worker has run")
	status.run(mixed(), "status")
	status.run(mixed(), "status", "-o", "json")
	status.note("the environment is not known")
	status.run(nil, "status")
	w.exec(`UPDATE ai_providers SET settings = 'garbage', type = 'anthropic' WHERE name = 'moved'`)
	seed.note("the row of moved cannot be compared")
	seed.run(mixed(), "seed", "--dry-run")
	verify.note("the row of moved cannot be compared")
	verify.run(mixed(), "verify")
	verify.run(mixed(), "verify", "-o", "json")
	status.note("the row of moved cannot be compared")
	status.run(mixed(), "status")
	compare(t, "commands/seed-mixed.txt", seed.normalised())
	compare(t, "commands/verify-mixed.txt", verify.normalised())
	compare(t, "commands/status-mixed.txt", squeezed(status.normalised()))
}
