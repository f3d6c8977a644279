//go:build e2e

package test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// TestHeldUnmanagedProviders has unmanaged rows whose alerts are silenced, or held until the drift has
// lasted, and an apply beside them.
func TestHeldUnmanagedProviders(t *testing.T) {
	t.Parallel()
	t.Run("Silenced", func(t *testing.T) {
		t.Parallel()
		bothSourcesOf(t, newSinkWorld, testHeldUnmanagedProvidersSilenced)
	})
	t.Run("AlertAfter", func(t *testing.T) {
		t.Parallel()
		bothSources(t, testHeldUnmanagedProvidersAlertAfter)
	})
	t.Run("Applied", func(t *testing.T) {
		t.Parallel()
		bothSourcesOf(t, newWorldWithoutRows, testHeldUnmanagedProvidersApplied)
	})
}

// testHeldUnmanagedProvidersSilenced silences a row before it is there. The worker is killed, and
// the row outlives the silence twice: the first time an operator ends it, the second time it
// expires while no worker runs. The sink gets what is not silenced.
func testHeldUnmanagedProvidersSilenced(t *testing.T, w *world) {
	e := w.endpoint()
	env := w.webhook(e).With("PROVWATCH_RESYNC", "1h")
	run := func() *worker { return w.start(env, "run", "--http-addr=127.0.0.1:0").ready() }
	var want []string
	expect := func(more ...string) {
		t.Helper()
		want = append(want, more...)
		eventually(t, func() bool { return len(w.silencedAlerts()) >= len(want) }, "%q, have %q", want, lazily(w.silencedAlerts))
		require.Equal(t, want, w.silencedAlerts())
	}
	ids := w.silenceAlerts("1h", "rogue")
	p := run()
	w.insertProvider("openai", "rogue", "https://rogue.example/")
	expect("1 unmanaged rogue silenced")
	require.Contains(t, w.published(pubsub.DriftAlerts)[0], `"silenced":true`)
	eventually(t, func() bool { return p.series()[`provwatch_provider_silenced{kind="unmanaged",provider="rogue"}`] == 1 }, "it is measured")
	_, page := p.get("/?state=drifted")
	require.Contains(t, page, "unmanaged, alerted, silenced")
	require.Equal(t, 2, w.run(env, "verify").Code, "exit codes do not change")
	require.Regexp(t, `(?m)^rogue +unmanaged, alerted, silenced +moved: database `, w.run(env, "status").Stdout)
	p.kill9()
	p = run()
	require.Equal(t, want, w.silencedAlerts(), "a restart repeats nothing")
	w.unsilence(ids[0])
	expect("2 unmanaged rogue repeats 1")

	w.silenceAlerts("1h")
	w.enable("rogue", false)
	expect("3 resolved rogue ends 2")
	w.enable("rogue", true)
	expect("4 unmanaged rogue silenced")
	p.stop()
	w.exec(`UPDATE provwatch.silences SET ends_at = now()`)
	p = run()
	expect("5 unmanaged rogue repeats 4")
	p.kill9()
	p = run()
	w.exec(`DELETE FROM ai_providers WHERE name = 'rogue'`)
	expect("6 resolved rogue ends 5")
	eventually(t, func() bool { return w.count(`SELECT seq FROM provwatch.sink_cursors WHERE stream = 'drift'`) == 6 }, "the sink has all")
	require.Equal(t, []string{"unmanaged rogue", "resolved rogue", "unmanaged rogue", "resolved rogue"}, once(e.got("drift")))
	p.stop()
}

// testHeldUnmanagedProvidersAlertAfter holds the alert of a row for an hour, over a restart and a
// killed leader. Another row is there for a moment.
func testHeldUnmanagedProvidersAlertAfter(t *testing.T, w *world) {
	env := w.afterAnHour()
	p := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
	pending := func(want string) {
		t.Helper()
		eventually(t, func() bool {
			return w.strings(`SELECT coalesce(string_agg(provider, ' ' ORDER BY provider), '') FROM provwatch.pending_rows`)[0] == want
		}, "%q is pending", want)
	}
	w.insertProvider("openai", "short", "https://short.example/")
	pending("short")
	w.exec(`DELETE FROM ai_providers WHERE name = 'short'`)
	eventually(t, func() bool { return p.metric("provwatch_unalerted_drifts_total") == 1 }, "it is counted")
	pending("")

	w.insertProvider("openai", "rogue", "https://rogue.example/")
	pending("rogue")
	const series = `provwatch_provider_drift{kind="unmanaged",provider="rogue"}`
	eventually(t, func() bool { _, measured := p.series()[series]; return measured }, "it is measured")
	require.Zero(t, p.series()[series])
	require.Equal(t, 0, w.run(env, "verify").Code, "it was not alerted")
	status := w.run(env, "status")
	require.Contains(t, status.Stdout, "1 pending")
	require.Regexp(t, `(?m)^rogue +unmanaged, pending +moved: database +type +- +openai$`, status.Stdout)
	_, page := p.get("/?state=pending")
	require.Contains(t, page, "unmanaged, pending")

	began := w.strings(`SELECT since::text FROM provwatch.pending_rows`)
	p.stop()
	first := w.start(env, "run").ready()
	second := w.start(env, "run").ready()
	require.Equal(t, began, w.strings(`SELECT since::text FROM provwatch.pending_rows`))
	require.Empty(t, w.alerts())
	w.exec(`UPDATE provwatch.pending_rows SET since = since - interval '1 hour'`)
	first.kill9()
	second.waitFor("msg=leading")
	w.expectAlerts("unmanaged rogue")
	require.Equal(t, []string{w.source}, w.strings(`SELECT source FROM provwatch.drift_alerts`), "what has shown it")
	pending("")
	require.Equal(t, 2, w.run(env, "verify").Code)
	w.exec(`DELETE FROM ai_providers WHERE name = 'rogue'`)
	w.expectAlerts("unmanaged rogue", "resolved rogue")
	second.stop()
}

// testHeldUnmanagedProvidersApplied applies environments beside an unmanaged row: nothing changes
// it, and its drift ends once the environment names it.
func testHeldUnmanagedProvidersApplied(t *testing.T, w *world) {
	w.mayApply()
	file := w.file("providers.env", w.atHost("one"))
	p := w.start(nil, "run", "--env-file", file, "--on-reload-drift=apply", "--env-reload=signal").ready()
	reload := func(content string) {
		t.Helper()
		before := p.logged("environment reloaded")
		w.rewrite(file, content)
		p.signal(syscall.SIGHUP)
		eventually(t, func() bool { return p.logged("environment reloaded") > before }, "the environment is read again")
	}
	w.insertProvider("openai", "rogue", "https://rogue.example/")
	w.expectAlerts("unmanaged rogue")
	row := w.strings(`SELECT p::text FROM ai_providers p WHERE name = 'rogue'`)
	reload(w.atHost("two"))
	for _, args := range [][]string{{"plan"}, {"apply"}} {
		r := w.run(nil, append(args, "--env-file", file)...)
		require.Equal(t, 0, r.Code, r.Stderr)
		require.NotContains(t, r.Stdout, "rogue")
	}
	r := w.run(nil, "apply", "rogue", "--env-file", file)
	require.Equal(t, 3, r.Code)
	require.Contains(t, r.Stderr, "the environment names no provider of that name")
	reload(w.atHost("two") + "CODER_AIBRIDGE_PROVIDER_0_TYPE=openai\nCODER_AIBRIDGE_PROVIDER_0_NAME=rogue\n" +
		"CODER_AIBRIDGE_PROVIDER_0_BASE_URL=https://rogue.example/\nCODER_AIBRIDGE_PROVIDER_0_KEY=" + w.secret("sk-rogue-0123456789-abcdef") + "\n")
	w.expectAlerts("unmanaged rogue", "resolved rogue")
	require.Equal(t, []string{"environment_changed"}, w.strings(`SELECT how FROM provwatch.drift_alerts WHERE kind = 'resolved'`))
	require.Equal(t, row, w.strings(`SELECT p::text FROM ai_providers p WHERE name = 'rogue'`))
	require.Equal(t, []string{"openai https://two/v1", "rogue https://rogue.example/"}, w.baseURLs())
	p.stop()
	w.searchForSecrets()
}
