package sink

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/retention"
)

// silenced records silenced alerts, each "kind provider".
func (f *feed) silenced(alerts ...string) {
	f.t.Helper()
	for _, alert := range alerts {
		f.alert(alert)
		_, err := f.pool.Exec(f.t.Context(), `UPDATE provwatch.drift_alerts SET silenced = true WHERE seq = (SELECT last_seq FROM provwatch.alert_counter)`)
		require.NoError(f.t, err)
	}
}

func TestSilenced(t *testing.T) {
	t.Parallel()
	t.Run("Skipped", testSilencedSkipped)
	t.Run("AnHourBehind", testSilencedAnHourBehind)
	t.Run("ManyInARow", testSilencedManyInARow)
	t.Run("BehindAFailure", testSilencedBehindAFailure)
	t.Run("Alertmanager", testSilencedAlertmanager)
	t.Run("Pruned", testSilencedPruned)
}

// testSilencedSkipped records silenced alerts among others: the cursor passes them, without a
// gap.
func testSilencedSkipped(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	c := newConsumer(t, nil)
	c.server.Start()
	f.silenced("missing a")
	f.alert("missing b")
	f.silenced("resolved a", "changed c")
	runner, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 4 }, "the cursor passes silenced alerts at the end")
	f.silenced("disabled c")
	runner.Wake(Drift)
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 5 }, "the cursor passes a silenced alert that comes alone")
	f.alert("resolved c", "resolved b")
	runner.Wake(Drift)
	c.expect(Drift, "missing b", "resolved c", "resolved b")
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 7 }, "the cursor is at the end")
	stop()
	require.Equal(t, 3, f.metrics.of("delivered webhook drift"))
	require.Zero(t, f.metrics.of("lag webhook drift"))
	require.Empty(t, f.announcements())
	require.Empty(t, f.letters())
}

// testSilencedAnHourBehind has a sink that was away for an hour. The silence that lasted
// then is over, and another one lasts now: what was stored with each alert counts.
func testSilencedAnHourBehind(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	away := newConsumer(t, func(w http.ResponseWriter, _ *http.Request, _ received) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	away.server.Start()
	_, err := f.pool.Exec(t.Context(), `INSERT INTO provwatch.silences (provider, author, reason, begins_at, ends_at) VALUES
		('a', '', '', now() - interval '2 hours', now() - interval '1 minute'), ('*', '', '', now() - interval '1 minute', now() + interval '1 hour')`)
	require.NoError(t, err)
	f.alert("missing b", "changed c")
	f.silenced("missing a")
	f.alert("resolved b")
	_, err = f.pool.Exec(t.Context(), `UPDATE provwatch.drift_alerts SET detected_at = now() - interval '1 hour'`)
	require.NoError(t, err)
	_, stop := f.run(time.Hour, newWebhook(t, away.server.URL))
	eventually(t, func() bool { return f.metrics.of("failed webhook drift") > 1 }, "the sink is away")
	require.Zero(t, f.cursor("webhook", Drift))
	stop()
	// A request that the run gave up when it stopped can still be answered: by the consumer that
	// refuses all, not by this one.
	c := newConsumer(t, nil)
	c.server.Start()
	f.run(time.Hour, newWebhook(t, c.server.URL))
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 4 }, "the cursor is at the end")
	require.Equal(t, []string{"missing b", "changed c", "resolved b"}, c.got(Drift))
}

// testSilencedManyInARow has more silenced alerts than are read ahead, and then another one.
func testSilencedManyInARow(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	c := newConsumer(t, nil)
	c.server.Start()
	for i := range 2*window + 50 {
		f.silenced(fmt.Sprint("missing p", i))
	}
	f.alert("missing a")
	f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing a")
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 2*window+51 }, "the cursor is at the end")
}

// testSilencedBehindAFailure has an event that fails before many silenced ones: those of other
// providers behind them are sent meanwhile.
func testSilencedBehindAFailure(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	var ill atomic.Bool
	ill.Store(true)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request, e received) bool {
		fails := ill.Load() && e.provider == "a"
		if fails {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return fails
	})
	c.server.Start()
	f.alert("missing a")
	for i := range window + 50 {
		f.silenced(fmt.Sprint("missing p", i))
	}
	f.alert("missing b")
	f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing b")
	require.Zero(t, f.cursor("webhook", Drift), "it does not pass what was not acknowledged")
	ill.Store(false)
	eventually(t, func() bool { return f.cursor("webhook", Drift) == window+52 }, "the cursor is at the end")
	require.Equal(t, []string{"missing b", "missing a"}, c.got(Drift))
}

// testSilencedAlertmanager has drifts that change and end while they are silenced. What was
// sent before fires until its end, also when another worker leads, and nothing else does.
func testSilencedAlertmanager(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newAlertmanagerServer(t)
	f.alert("changed a", "changed b")
	_, stop := f.run(time.Hour, newAlertmanager(t, s))
	s.expectFiring("a changed", "b changed")
	f.silenced("disabled a", "missing c", "missing d", "resolved d")
	stop()
	s.forget()
	runner, stop := f.run(time.Hour, newAlertmanager(t, s))
	s.expectFiring("a changed", "b changed")
	eventually(t, func() bool { return f.cursor("alertmanager", Drift) == 6 }, "the cursor is at the end")
	f.alert("resolved a")
	runner.Wake(Drift)
	s.expectFiring("b changed")
	f.alert("missing c") // the silence is over
	runner.Wake(Drift)
	s.expectFiring("b changed", "c missing")
	stop()
	require.Equal(t, []string{"a changed", "b changed", "c missing"}, s.hasFired())
}

// testSilencedPruned prunes alerts of drifts that last, and changed while they were silenced:
// the alert that sinks were sent last stays.
func testSilencedPruned(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.alert("changed a", "missing b", "resolved b")
	f.silenced("disabled a", "missing a", "missing c", "changed c", "missing d", "resolved d")
	f.alert("changed e")
	require.Equal(t, retention.Pruned{Alerts: 6, AlertsUpTo: 9}, f.prune())
	var left []string
	firing, err := (&reader{pool: f.pool, stream: Drift}).firing(context.Background(), 10)
	require.NoError(t, err)
	for _, e := range firing {
		left = append(left, fmt.Sprintf("%d %s %s", e.Seq, e.kind(), e.Provider))
	}
	require.Equal(t, []string{"1 changed a", "10 changed e"}, left)
	events, err := (&reader{pool: f.pool, stream: Drift}).list(context.Background(), position{}, 10, window)
	require.NoError(t, err)
	left = nil
	for _, e := range events {
		left = append(left, fmt.Sprintf("%d %s %s", e.Seq, e.kind(), e.Provider))
	}
	require.Equal(t, []string{"1 changed a", "5 missing a", "7 changed c", "10 changed e"}, left)
}
