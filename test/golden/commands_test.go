//go:build e2e

package golden

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	sqlfiles "provwatch/sql"
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
	require.Equal(w.t, 0, r.code, r.stderr)
}

func TestCommands(t *testing.T) {
	t.Parallel()
	t.Run("version", func(t *testing.T) {
		t.Parallel()
		s := transcript{w: newPlace(t)}
		s.run(nil, "version")
		s.run(nil, "version", "-o", "json")
		s.run(nil, "--version")
		compare(t, "commands/version.txt", s.normalised())
	})
	t.Run("roles", func(t *testing.T) {
		t.Parallel()
		w := newPlace(t)
		encoded, err := json.MarshalIndent(map[string]string{"sql": sqlfiles.Roles}, "", "  ")
		require.NoError(t, err)
		w.replace(strings.TrimSuffix(strings.TrimPrefix(string(encoded), "{\n  \"sql\": \""), "\"\n}"), "<sql/roles.sql>")
		w.replace(sqlfiles.Roles, "<sql/roles.sql>\n")
		s := transcript{w: w}
		s.run(nil, "roles")
		s.run(nil, "roles", "-o", "json")
		compare(t, "commands/roles.txt", s.normalised())
	})
	t.Run("migrate", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "notify")
		s := transcript{w: w}
		s.note("an empty database")
		s.run(nil, "migrate", "--dry-run")
		s.run(nil, "migrate", "--dry-run", "-o", "json")
		s.run(nil, "seed", "--migrate=check")
		s.run(nil, "seed", "--migrate=off")
		s.run(nil, "status")
		s.run(nil, "watch")
		s.run(nil, "migrate")
		s.run(nil, "migrate")
		s.run(nil, "migrate", "--dry-run", "-o", "json")
		s.note("the source is the WAL")
		s.run(nil, "migrate", "--dry-run", "--source=wal")
		s.run(nil, "migrate", "--source=wal", "-o", "json")
		w.exec(`DROP TRIGGER provwatch_provider_update ON ai_providers`)
		s.note("a trigger is gone")
		s.run(nil, "migrate", "--dry-run")
		s.run(twoProviders(), "seed", "--migrate=off")
		compare(t, "commands/migrate.txt", s.normalised())
	})
	t.Run("seed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "notify")
		s := transcript{w: w}
		s.note("an empty database")
		s.run(twoProviders(), "seed", "--dry-run")
		s.run(twoProviders(), "seed", "--dry-run", "-o", "json")
		s.run(twoProviders(), "verify")
		s.run(twoProviders(), "seed")
		s.run(twoProviders(), "seed")
		s.run(twoProviders(), "seed", "-o", "json")
		s.run(twoProviders(), "seed", "--log-format=json", "--log-level=debug")
		s.run(twoProviders(), "verify")
		w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1', type = 'anthropic' WHERE name = 'openai'`)
		s.note("openai was changed")
		s.run(twoProviders(), "seed")
		s.run(twoProviders(), "seed", "--log-format=json")
		s.note("the environment names no provider")
		s.run(nil, "seed")
		s.run(nil, "verify")
		compare(t, "commands/seed.txt", s.normalised())
	})
	t.Run("mixed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "notify")
		require.Equal(t, 0, w.run(nil, "migrate").code)
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
	})
	t.Run("resolve", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "notify")
		env := twoProviders()
		s := transcript{w: w}
		require.Equal(t, 0, w.run(env, "seed").code)
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
	})
	t.Run("mistakes", func(t *testing.T) {
		t.Parallel()
		w := newPlace(t)
		w.env["DATABASE_URL"] = "postgres://127.0.0.1:1/none"
		s := transcript{w: w}
		for _, args := range []string{
			"frobnicate", "verfy", "run now", "run CODER_AIBRIDGE_OPENAI_KEY=x", "sinks frobnicate", "sinks retry", "sinks retry webhook x", "completion nosh",
			"run --frob", "run --htp-addr=x", "verify --resync=1m", "watch --since", "watch --since=first",
			"run --resync=soon", "run --resync=5", "run --resync=0s", "run --takeover-after=1s", "run --slot-max-lag=much", "run --http-addr=localhost",
			"run --source=x", "verify -o yaml", "run --log-format=xml", "run --log-level=loud", "seed --migrate=maybe", "verify --credential-drift=fail",
			"seed --compat=upstream", "run --on-boot-drift=ignore", "run --debug", "run --http-token-file=x", "run --sink-from=middle", "run --sink-give-up=0s",
			"run --webhook-url=https://h/", "run --nats-stream=S", "run --alertmanager-url=http://h --alertmanager-runbook-url=here",
			"run --compat=upstream-credentials --on-boot-drift=alert", "run --database-url-file=x", "verify --target=a", "run --config=x",
		} {
			s.run(nil, strings.Fields(args)...)
		}
		s.run(environ{"PROVWATCH_RESYNC": "soon"}, "run")
		s.run(environ{"PROVWATCH_MIGRATE": "maybe"}, "verify")
		s.run(environ{"PROVWATCH_RESINC": "5m"}, "version")
		s.note("DATABASE_URL is no URL of PostgreSQL")
		s.run(environ{"DATABASE_URL": "mysql://h/d"}, "verify")
		s.note("variables of providers")
		s.run(environ{
			"CODER_AIBRIDGE_PROVIDER_0_TYPE": "openai", "CODER_AIBRIDGE_PROVIDER_0_NAME": "No_Name", "CODER_AIBRIDGE_PROVIDER_0_BASE_URL": "no url",
			"CODER_AIBRIDGE_PROVIDER_2_KEYS": "a,,a", "CODER_AIBRIDGE_PROVIDER_2_TYP": "openai",
		}, "verify")
		compare(t, "commands/mistakes.txt", s.normalised())
	})
}
