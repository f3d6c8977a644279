//go:build e2e

package test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCause has each side of a provider change, beside a running worker and while none runs,
// and the drifts end in each way.
func TestCause(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		key := "CODER_AIBRIDGE_OPENAI_KEY=" + w.secret(openAIKey) + "\n"
		at := func(host string) string { return key + "CODER_AIBRIDGE_OPENAI_BASE_URL=https://" + host + "/v1\n" }
		file := w.file("providers.env", at("one"))
		run := func(args ...string) *worker {
			return w.start(nil, append([]string{"run", "--env-file", file, "--http-addr=127.0.0.1:0"}, args...)...).ready()
		}
		var alerts, causes []string
		expect := func(alert, cause string) {
			t.Helper()
			alerts, causes = append(alerts, alert+" openai"), append(causes, cause)
			w.expectAlerts(alerts...)
			require.Equal(t, causes, w.strings(`SELECT concat_ws(' ', nullif(moved, ''), nullif(how, ''), 'ends ' || resolves) FROM provwatch.drift_alerts ORDER BY seq`))
		}
		move := func(host string) { w.exec(`UPDATE ai_providers SET base_url = $1`, "https://"+host+"/v1") }

		p := run()
		reload := func(host string) {
			w.rewrite(file, at(host))
			p.signal(syscall.SIGHUP)
		}
		move("two")
		expect("changed", "database")
		r := w.run(nil, "verify", "--env-file", file)
		require.Equal(t, 2, r.Code)
		require.Regexp(t, `openai +changed +moved: database +base_url`, r.Stdout)
		require.Equal(t, 0, w.run(nil, "resolve", "openai", "--take=env", "--env-file", file).Code)
		expect("resolved", "resolved_by_operator ends 1")
		p.waitFor(`msg="drift resolved"`, "how=resolved_by_operator", "resolves=1")
		reload("two")
		expect("changed", "environment")
		eventually(t, func() bool {
			_, page := p.get("/")
			return strings.Contains(page, "moved: environment")
		}, "the page shows it")
		reload("one")
		expect("resolved", "environment_changed ends 3")

		p.kill9()
		w.rewrite(file, at("three"))
		r = w.run(nil, "seed", "--env-file", file)
		require.Equal(t, 2, r.Code)
		require.Contains(t, r.Stderr, "(moved: environment)")
		p = run("--on-boot-drift=alert")
		expect("changed", "environment")
		move("four")
		expect("changed", "both")
		require.Equal(t, 0, w.run(nil, "resolve", "openai", "--take=db", "--env-file", file).Code)
		expect("resolved", "accepted ends 6")
		reload("five")
		expect("changed", "environment")
		reload("four")
		expect("resolved", "environment_changed ends 8")
		w.exec(`DELETE FROM ai_providers`)
		expect("missing", "database")
		w.rewrite(file, "CODER_AIBRIDGE_ANTHROPIC_KEY="+w.secret(anthropicKey)+"\n")
		p.signal(syscall.SIGHUP)
		eventually(t, func() bool { return len(w.alerts()) == 12 }, "alerts of both providers")
		require.ElementsMatch(t, []string{"missing anthropic environment", "resolved openai unnamed ends 10"},
			w.strings(`SELECT concat_ws(' ', kind, provider, nullif(moved, ''), nullif(how, ''), 'ends ' || resolves) FROM provwatch.drift_alerts WHERE seq > 10`))
		p.stop()
	})
}
