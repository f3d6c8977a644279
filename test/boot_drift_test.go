//go:build e2e

package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// differs is the error about a drifted provider, word for word
// (docs/specification.md, section 4).
func differs(name, fields, variable string) string {
	return fmt.Sprintf(`AI provider "%[1]s" already exists in the database and differs from the current environment configuration: %[2]s (moved: database); `+
		`either make both agree (change the variables %[3]s, or "worker resolve %[1]s --take env" to write them to the database), `+
		`or keep the database's values with "worker resolve %[1]s --take db"`, name, fields, variable)
}

func TestBootDrift(t *testing.T) {
	t.Parallel()
	t.Run("NamesEveryProviderAndWritesNothing", testBootDriftNamesEveryProviderAndWritesNothing)
	t.Run("UndecodableSettingsAreNeverEqual", testBootDriftUndecodableSettingsAreNeverEqual)
}

func testBootDriftNamesEveryProviderAndWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 0, w.run(w.twoProviders(), "seed").Code)
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1', type = 'anthropic' WHERE name = 'openai'`)
	w.exec(`UPDATE ai_providers SET settings = '{"_type": "bedrock", "_version": 1, "region": "us-east-1"}' WHERE name = 'anthropic'`)
	env := w.twoProviders().
		With("CODER_AIBRIDGE_PROVIDER_0_TYPE", "openai").With("CODER_AIBRIDGE_PROVIDER_0_NAME", "extra").
		With("CODER_AIBRIDGE_PROVIDER_0_KEY", w.secret("sk-extra-0123456789-abcdef"))
	want := "worker: " + differs("anthropic", `type (environment "anthropic", database "anthropic (Bedrock)"), bedrock_region (environment "", database "us-east-1")`, "CODER_AIBRIDGE_ANTHROPIC_*") + "\n" +
		differs("openai", `type (environment "openai", database "anthropic"), base_url (environment "https://api.openai.com/v1/", database "https://proxy.example/v1")`,
			"CODER_AIBRIDGE_OPENAI_*") + "\n" +
		`or start all the same, seeding what is missing and alerting what differs: "worker run --on-boot-drift=alert"` + "\n"

	before := w.dump()
	require.Equal(t, result{Code: 2, Stderr: want}, w.run(env, "seed"))
	r := w.run(env, "run")
	require.Equal(t, 2, r.Code)
	require.Equal(t, want, r.Stderr[strings.Index(r.Stderr, "worker: "):])
	require.Empty(t, r.Stdout)
	require.Equal(t, before, w.dump())
	require.Len(t, w.published(pubsub.Seeds), 2, "of the first seed")

	// With --on-boot-drift=alert the same boot succeeds.
	p := w.start(env, "run", "--on-boot-drift=alert").ready()
	p.waitFor("level=WARN", "provider differs from the environment", "provider=openai",
		`remedy="worker resolve openai --take env, or worker resolve openai --take db"`)
	w.expectAlerts("changed anthropic", "changed openai")
	require.Equal(t, []string{"boot", "boot"}, w.strings(`SELECT source FROM provwatch.drift_alerts`))
	require.Equal(t, []string{"extra"}, w.strings(`SELECT name FROM ai_providers JOIN ai_provider_keys k ON k.provider_id = ai_providers.id
		WHERE api_key = 'sk-extra-0123456789-abcdef'`))
	eventually(t, func() bool { return len(w.payloads(pubsub.Seeds)) == 3 }, "the missing provider's seed is published")
	w.exec(`UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/', type = 'openai' WHERE name = 'openai'`)
	w.expectAlerts("changed anthropic", "changed openai", "resolved openai")
	p.stop()
}

func testBootDriftUndecodableSettingsAreNeverEqual(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]struct{ set, problem, remedy string }{
		"not JSON": {`settings = 'garbage with sk-inside-0123456789'`, "settings are not a JSON object", "repair its settings"},
		"another version": {`settings = '{"_type": "bedrock", "_version": 2, "x": "sk-inside-0123456789"}'`, `settings have an unknown "_version"`,
			"repair its settings"},
		"encrypted": {`settings_key_id = 'key-7', settings = 'sk-inside-0123456789'`,
			`encrypted with key "key-7", which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS`, "add the key to the variable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.migrate()
			w.secret("sk-inside-0123456789")
			env := w.twoProviders()
			w.exec(`INSERT INTO dbcrypt_keys (number, revoked_key_digest, active_key_digest, test) VALUES (1, 'key-6', 'key-7', '')`)
			w.insertProvider("anthropic", "anthropic", "https://api.anthropic.com/", settings.set)
			before := w.dump()
			want := fmt.Sprintf(`AI provider "anthropic" already exists in the database and cannot be compared: %s; `+
				`%s, or remove its variables (CODER_AIBRIDGE_ANTHROPIC_*)`+"\n"+
				`or start all the same, seeding what is missing and alerting what differs: "worker run --on-boot-drift=alert"`, settings.problem, settings.remedy)
			require.Equal(t, result{Code: 1, Stderr: "worker: " + want + "\n"}, w.run(env, "seed"))
			r := w.run(env, "seed", "--dry-run")
			require.Equal(t, 1, r.Code)
			require.Contains(t, r.Stdout, "!  anthropic  not comparable  settings  none                        cannot be compared: "+settings.problem+"\n")
			r = w.run(env, "resolve", "anthropic", "--take", "db")
			require.Equal(t, 1, r.Code)
			require.Contains(t, r.Stderr, settings.problem)
			require.Equal(t, before, w.dump())

			p := w.start(env, "run", "--on-boot-drift=alert").ready()
			require.Equal(t, []string{settings.problem}, w.strings(`SELECT reason FROM provwatch.not_comparable WHERE provider = 'anthropic'`))
			w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			w.expectAlerts("disabled openai")
			w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
			p.stop()

			// A provider that the environment does not name is not compared.
			delete(env, "CODER_AIBRIDGE_ANTHROPIC_KEY")
			require.Equal(t, 0, w.run(env, "seed").Code)
			require.Equal(t, 0, w.run(env, "verify").Code)
		})
	}
}
