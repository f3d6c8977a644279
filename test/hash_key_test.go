//go:build e2e

package test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
)

// TestHashKey gives each side a base URL with a password
// that is in a dictionary. Nothing that is stored or published is the hash that whoever
// tries the dictionary would find; what is published in its place is the same for the
// same value, over restarts too.
func TestHashKey(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		const inEnvironment, inDatabase = "https://svc:Winter2026!@proxy.invalid/v1/", "https://svc:Autumn2025!@proxy.invalid/v1/"
		for _, text := range []string{"Winter2026!", "Autumn2025!"} {
			w.secret(text)
		}
		for _, baseURL := range []string{inEnvironment, inDatabase} {
			w.secret(provider.Canonical{Type: provider.OpenAI, BaseURL: baseURL}.Hash())
		}
		env := environ{"CODER_AIBRIDGE_OPENAI_KEY": w.secret(openAIKey), "CODER_AIBRIDGE_OPENAI_BASE_URL": inEnvironment}
		start := func() *worker {
			return w.start(env, "run", "--on-boot-drift=alert", "--http-addr=127.0.0.1:0", "--log-level=debug").ready()
		}
		p := start()
		p.waitFor("level=WARN", "CODER_AIBRIDGE_OPENAI_BASE_URL", "keyed digest")
		w.exec(`UPDATE ai_providers SET base_url = $1`, inDatabase)
		w.expectAlerts("changed openai")
		w.exec(`UPDATE ai_providers SET base_url = $1`, inEnvironment)
		w.expectAlerts("changed openai", "resolved openai")
		w.exec(`UPDATE ai_providers SET base_url = $1`, inDatabase)
		w.expectAlerts("changed openai", "resolved openai", "changed openai")

		alerts := make([]pubsub.DriftAlert, 3)
		for i, payload := range w.payloads(pubsub.DriftAlerts) {
			require.NoError(t, json.Unmarshal([]byte(payload), &alerts[i]))
			require.True(t, alerts[i].HashKeyed, payload)
			require.True(t, provider.IsKeyed(alerts[i].EnvHash) && provider.IsKeyed(alerts[i].DBHash), payload)
		}
		require.NotEqual(t, alerts[0].EnvHash, alerts[0].DBHash)
		require.Equal(t, alerts[1].EnvHash, alerts[1].DBHash)
		require.Equal(t, []string{alerts[0].EnvHash, alerts[0].DBHash}, []string{alerts[2].EnvHash, alerts[2].DBHash})

		p.stop()
		p = start()
		w.expectAlerts("changed openai", "resolved openai", "changed openai")
		for _, args := range [][]string{{"verify"}, {"seed", "--dry-run"}} {
			r := w.run(env, append(args, "-o", "json")...)
			require.Equal(t, 2, r.Code, r.Stderr)
			require.Contains(t, r.Stdout, `"hash_keyed": true`)
			require.Contains(t, r.Stdout, alerts[0].DBHash)
		}
		watch := w.start(nil, "watch", "--since=0", "-o", "json")
		eventually(t, func() bool { return strings.Count(strings.Join(watch.output(), "\n"), `"hash_keyed":true`) == 3 }, "the alerts are printed")
		watch.stop()

		require.Equal(t, 0, w.run(env, "resolve", "openai", "--take", "db").Code)
		w.expectAlerts("changed openai", "resolved openai", "changed openai", "resolved openai")
		eventually(t, func() bool {
			return w.count(`SELECT count(*) FROM provwatch.audit_log WHERE action = 'drift.accept' AND (details ->> 'hash_keyed')::boolean`) == 1
		}, "it is audited")
		p.stop()
		p = start()
		w.expectAlerts("changed openai", "resolved openai", "changed openai", "resolved openai")
		r := w.run(env, "verify", "-o", "json")
		require.Equal(t, 0, r.Code, r.Stdout)
		r = w.run(env, "status", "-o", "json")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Contains(t, r.Stdout, `"accepted"`)
		_, page := p.get("/")
		w.emit(page)
		p.stop()
	})
}
