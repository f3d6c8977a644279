//go:build e2e

package test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRollingUpdateHeld has a silence and --alert-after hold alerts during a rolling update, and the
// rollback that follows: only the newest environment's worker alerts, once.
func TestRollingUpdateHeld(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		u := newRollingUpdate(w)
		former := w.start(u.former, rolling("10m")...).ready()
		former.waitFor("msg=leading")
		id := w.silenceAlerts("1h", "anthropic")[0]
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
		w.expectAlerts("disabled anthropic")

		newer := w.start(u.newer, rolling("10m", "--on-boot-drift=apply", "--alert-after=10m")...).ready()
		newer.waitFor("msg=leading")
		former.waitForReadyz(http.StatusOK, "older than that of worker")
		u.waitForAgreement()
		w.unsilence(id)
		w.expectAlerts("disabled anthropic", "disabled anthropic")
		require.Equal(t, []string{"1 disabled anthropic silenced", "2 disabled anthropic repeats 1"}, w.silencedAlerts())
		require.Equal(t, 1, former.logged("msg=drift"), "it has alerted what it led")

		// The newer one holds a drift back, which a former one would alert at once.
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectPending("disabled openai")
		const began = `SELECT provider || ' ' || since FROM provwatch.pending_drifts`
		since := w.strings(began)
		restarted := w.start(u.former, rolling("20s", "--alert-after=10m")...).ready()
		former.stop()
		for range 2 { // the first one can have begun before the former worker ended
			ended := newer.metric("provwatch_verification_duration_seconds_count")
			w.exec(`NOTIFY ai_providers_changed`)
			eventually(t, func() bool { return newer.metric("provwatch_verification_duration_seconds_count") > ended }, "the newer worker verifies")
		}
		require.Equal(t, since, w.strings(began))

		// After the rollback it goes on with the time of the drift.
		newer.kill9()
		restarted.waitFor("msg=leading")
		restarted.waitForReadyz(http.StatusOK, `^ok\n*$`)
		require.Equal(t, since, w.strings(began))
		w.expectAlerts("disabled anthropic", "disabled anthropic")
		w.exec(`UPDATE provwatch.pending_drifts SET since = since - interval '10 minutes'`)
		w.exec(`NOTIFY ai_providers_changed`)
		w.expectAlerts("disabled anthropic", "disabled anthropic", "disabled openai")
		restarted.stop()
	})
}
