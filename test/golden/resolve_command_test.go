//go:build e2e

package golden

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/workertest"
)

func testCommandsResolve(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "notify")
	env := workertest.TwoProviders()
	s := transcript{w: w}
	require.Equal(t, 0, w.run(env, "seed").Code)
	s.run(env, "resolve", "openai", "--take=env")
	s.run(env, "resolve", "openai", "--take=env", "-o", "json")
	const change = `UPDATE ai_providers SET base_url = 'https://proxy.example/v1', enabled = false WHERE name = 'openai'`
	w.exec(change)
	s.note("openai was changed and disabled")
	s.run(env, "resolve", "openai", "--take=db")
	s.run(env, "resolve", "openai", "--take=db")
	s.run(env, "resolve", "openai", "--take=db", "-o", "json")
	s.run(env, "verify")
	s.run(env, "resolve", "openai", "--take=env")
	w.exec(change)
	s.note("openai was changed and disabled again")
	s.run(env, "resolve", "openai", "--take=env", "-o", "json")
	w.exec(`UPDATE ai_provider_keys SET api_key = $1 WHERE api_key = $2`, rotatedKey, openAIKey)
	s.note("the key of openai was rotated")
	s.run(env, "resolve", "openai", "--take=env", "--credential-drift=alert")
	s.run(env, "resolve", "openai", "--take=env", "--with-keys")
	w.exec(`DELETE FROM ai_providers WHERE name = 'openai'`)
	s.note("openai was deleted")
	s.run(env, "resolve", "openai", "--take=db")
	s.run(env, "resolve", "openai", "--take=env")
	w.exec(`UPDATE ai_providers SET deleted = true WHERE name = 'openai'`)
	s.note("openai was soft-deleted")
	s.run(env, "resolve", "openai", "--take=env", "--with-keys")
	s.note("mistakes")
	s.run(env, "resolve", "opnai", "--take=env")
	s.run(env, "resolve", "openai")
	s.run(env, "resolve", "--take=db")
	s.run(env, "resolve", "openai", "--take=db", "--with-keys")
	compare(t, "commands/resolve.txt", s.normalised())
}
