//go:build e2e

package test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// oneProviderWithTwoKeys names the provider proxy.
func (w *world) oneProviderWithTwoKeys() (env environ, first, second string) {
	first, second = w.secret("sk-first-0123456789-abcdef"), w.secret("sk-second-0123456789-abcdef")
	return environ{
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":     "openai",
		"CODER_AIBRIDGE_PROVIDER_0_NAME":     "proxy",
		"CODER_AIBRIDGE_PROVIDER_0_BASE_URL": "https://proxy.example/v1",
		"CODER_AIBRIDGE_PROVIDER_0_KEYS":     first + "," + second,
	}, first, second
}

func (w *world) addKey(key string) {
	w.t.Helper()
	w.exec(`INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $1 FROM ai_providers WHERE NOT deleted`, w.secret(key))
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	t.Run("ComparedOnlyOnRequest", testCredentialsComparedOnlyOnRequest)
	t.Run("AlertedInCounts", testCredentialsAlertedInCounts)
	t.Run("IgnoreAndWarnDoNotAlert", testCredentialsIgnoreAndWarnDoNotAlert)
}

func testCredentialsComparedOnlyOnRequest(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "wal")
	env, first, second := w.oneProviderWithTwoKeys()
	require.Equal(t, 0, w.run(env, "seed").Code)
	other := env.With("CODER_AIBRIDGE_PROVIDER_0_KEYS", second+" , "+first)
	require.Equal(t, 0, w.run(other, "verify", "--credential-drift=alert").Code, "the order of keys does not matter")
	w.addKey("sk-third-0123456789-abcdef")

	inSync := block(`
		PROVIDER  STATE    CAUSE  FIELD  ENVIRONMENT  DATABASE
		proxy     in sync
		0 of 1 provider drifts.
		`)
	require.Equal(t, result{Code: 0, Stdout: inSync}, w.run(env, "verify"))
	require.Equal(t, result{Code: 0, Stdout: inSync}, w.run(env, "verify", "--credential-drift=ignore"))
	require.Equal(t, result{Code: 2, Stdout: block(`
		PROVIDER  STATE    CAUSE             FIELD     ENVIRONMENT                      DATABASE
		proxy     changed  moved: not known  api_keys  2, of these 0 not in the database  3, of these 1 not in the environment
		1 of 1 provider drifts.
		`)}.Squeezed(), w.run(env, "verify", "--credential-drift=alert").Squeezed())
	r := w.run(env, "verify", "--credential-drift=warn")
	require.Equal(t, 0, r.Code, "a warning is no drift")
	require.Equal(t, inSync, r.Stdout)
	require.Equal(t, 1, strings.Count(r.Stderr, "level=WARN"), r.Stderr)
	require.Contains(t, r.Stderr, "provider=proxy")
	require.Contains(t, r.Stderr, "2, of these 0 not in the database; db 3, of these 1 not in the environment")
	require.Equal(t, 0, w.run(env.With("PROVWATCH_CREDENTIAL_DRIFT", "ignore"), "verify").Code)
	require.Equal(t, 2, w.run(env.With("PROVWATCH_CREDENTIAL_DRIFT", "alert"), "verify").Code)
}

func testCredentialsAlertedInCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env, first, second := w.oneProviderWithTwoKeys()
	w.start(env, "run", "--credential-drift=alert").ready().stop()
	env["CODER_AIBRIDGE_PROVIDER_0_KEYS"] = second + "," + first // no difference
	p := w.start(env, "run", "--credential-drift=alert").ready()
	w.addKey("sk-third-0123456789-abcdef")
	w.expectAlerts("changed proxy")
	require.Equal(t, []string{`[{"db": "3, of these 1 not in the environment", "env": "2, of these 0 not in the database", "name": "api_keys"}]`},
		w.strings(`SELECT fields::text FROM provwatch.drift_alerts`))
	w.exec(`UPDATE ai_provider_keys SET updated_at = now()`) // looked at again, and nothing new
	w.exec(`DELETE FROM ai_provider_keys WHERE api_key LIKE 'sk-third%'`)
	w.expectAlerts("changed proxy", "resolved proxy")
	w.exec(`UPDATE ai_provider_keys SET api_key = $1 WHERE api_key = $2`, w.secret("sk-rotated-0123456789-abcdef"), first)
	w.expectAlerts("changed proxy", "resolved proxy", "changed proxy")
	require.Equal(t, []string{`[{"db": "2, of these 1 not in the environment", "env": "2, of these 1 not in the database", "name": "api_keys"}]`},
		w.strings(`SELECT fields::text FROM provwatch.drift_alerts WHERE seq = 3`))
	p.stop()
}

func testCredentialsIgnoreAndWarnDoNotAlert(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"ignore", "warn"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			env, _, _ := w.oneProviderWithTwoKeys()
			p := w.start(env, "run", "--credential-drift="+mode).ready()
			w.addKey("sk-third-0123456789-abcdef")
			if mode == "warn" {
				p.waitFor("level=WARN", "credentials in the database differ", "provider=proxy", "3, of these 1 not in the environment")
			}
			w.exec(`UPDATE ai_provider_keys SET updated_at = now()`)
			w.exec(`NOTIFY ai_providers_changed`)
			// In order: whatever came before has been looked at as well.
			w.exec(`UPDATE ai_providers SET enabled = false`)
			w.expectAlerts("disabled proxy")
			require.Equal(t, []string{`[{"db": "false", "env": "true", "name": "enabled"}]`}, w.strings(`SELECT fields::text FROM provwatch.drift_alerts`))
			require.Equal(t, map[string]int{"ignore": 0, "warn": 1}[mode], p.logged("credentials in the database differ"))
			p.stop()
		})
	}
}
