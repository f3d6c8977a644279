//go:build e2e

package test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAlertAfter(t *testing.T) {
	t.Parallel()
	t.Run("Lasts", func(t *testing.T) {
		t.Parallel()
		bothSources(t, testAlertAfterLasts)
	})
	t.Run("Failover", func(t *testing.T) {
		t.Parallel()
		bothSources(t, testAlertAfterFailover)
	})
}

// afterAnHour returns the environment of workers that alert a drift after an hour.
func (w *world) afterAnHour() environ {
	return w.twoProviders().With("PROVWATCH_ALERT_AFTER", "1h").With("PROVWATCH_RESYNC", "1h")
}

// expectPending waits until exactly these drifts are pending, each "kind provider".
func (w *world) expectPending(want ...string) {
	w.t.Helper()
	pending := func() string {
		return strings.Join(w.strings(`SELECT kind || ' ' || provider FROM provwatch.pending_drifts ORDER BY provider`), ", ")
	}
	eventually(w.t, func() bool { return pending() == strings.Join(want, ", ") }, "pending drifts %q, have %q", want, lazily(func() []string { return []string{pending()} }))
}

// enable sets whether a provider is enabled.
func (w *world) enable(name string, enabled bool) {
	w.t.Helper()
	w.exec(`UPDATE ai_providers SET enabled = $2 WHERE name = $1`, name, enabled)
}

// testAlertAfterLasts has a drift that ends before it has lasted, and another that lasts.
func testAlertAfterLasts(t *testing.T, w *world) {
	env := w.afterAnHour()
	p := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
	w.enable("openai", false)
	w.expectPending("disabled openai")
	w.enable("openai", true)
	eventually(t, func() bool { return p.metric("provwatch_unalerted_drifts_total") == 1 }, "it is counted")
	w.expectPending()

	w.enable("anthropic", false)
	w.expectPending("disabled anthropic")
	const series = `provwatch_provider_drift{kind="disabled",provider="anthropic"}`
	eventually(t, func() bool { _, measured := p.series()[series]; return measured }, "it is measured")
	require.Zero(t, p.series()[series])
	require.EqualValues(t, 1, p.metric("provwatch_pending_providers"))
	require.Equal(t, 2, w.run(env, "verify").Code)
	r := w.run(env, "status")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, "1 pending")
	require.Regexp(t, `(?m)^anthropic +disabled, pending +moved: database +enabled +true +false`, r.Stdout)
	status, page := p.get("/")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "disabled, pending")

	began := w.strings(`SELECT since::text FROM provwatch.pending_drifts`)
	w.exec(`UPDATE ai_providers SET base_url = 'https://other.example/' WHERE name = 'anthropic'`)
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM provwatch.pending_drifts WHERE fields @> '[{"name":"base_url"}]'`) == 1
	}, "its other values are recorded")
	require.Equal(t, began, w.strings(`SELECT since::text FROM provwatch.pending_drifts`))
	require.Empty(t, w.alerts())

	// It has lasted for an hour. That another one begins has the leader look.
	w.exec(`UPDATE provwatch.pending_drifts SET since = since - interval '1 hour'`)
	w.enable("openai", false)
	w.expectAlerts("disabled anthropic")
	w.expectPending("disabled openai")
	require.Equal(t, []string{w.source}, w.strings(`SELECT source FROM provwatch.drift_alerts`), "what has shown it")
	w.enable("anthropic", true)
	w.expectAlerts("disabled anthropic", "changed anthropic")
	require.EqualValues(t, 1, p.metric("provwatch_unalerted_drifts_total"))
}

// testAlertAfterFailover restarts a worker and kills the leader while a drift is pending, whose
// time goes on.
func testAlertAfterFailover(t *testing.T, w *world) {
	env := w.afterAnHour()
	p := w.start(env, "run").ready()
	w.enable("openai", false)
	w.expectPending("disabled openai")
	began := w.strings(`SELECT since::text FROM provwatch.pending_drifts`)
	p.stop()
	w.exec(`UPDATE ai_providers SET base_url = 'https://other.example/' WHERE name = 'openai'`)
	first := w.start(env, "run", "--on-boot-drift=alert").ready()
	second := w.start(env, "run", "--on-boot-drift=alert").ready()
	require.Equal(t, began, w.strings(`SELECT since::text FROM provwatch.pending_drifts`))
	require.Empty(t, w.alerts())
	w.exec(`UPDATE provwatch.pending_drifts SET since = since - interval '1 hour'`)
	first.kill9()
	second.waitFor("msg=leading")
	w.expectAlerts("disabled openai")
	w.expectPending()
	second.stop()
}
