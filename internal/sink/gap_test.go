package sink

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGapAnnouncement(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	c := newConsumer(t, nil)
	c.server.Start()
	f.alert("missing a")
	_, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing a")
	eventually(t, func() bool { return f.metrics.of("stored webhook drift") == 1 }, "the cursor is stored")
	stop()

	prune := func(statements ...string) {
		for _, s := range statements {
			_, err := f.pool.Exec(t.Context(), s)
			require.NoError(t, err)
		}
	}
	// Of what it has nothing is lost.
	prune(`DELETE FROM provwatch.drift_alerts`)
	f.alert("resolved a", "missing a", "missing b")
	f.audit("a", "b")
	prune(`DELETE FROM provwatch.drift_alerts WHERE seq < 4`, `TRUNCATE provwatch.audit_log`)
	runner, _ := f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing a", "missing b")
	eventually(t, func() bool { return len(f.announcements()) == 2 }, "gaps of both streams, have %q", f.announcements())
	require.ElementsMatch(t, []string{
		"sink_gap: sink webhook: 2 of drift up to seq 3 were deleted before it had them",
		"sink_gap: sink webhook: 2 of audit up to seq 2 were deleted before it had them",
	}, f.announcements())
	eventually(t, func() bool { return f.metrics.of("gap webhook audit") == 1 }, "the gap is counted")

	// The next comes all the same, and a gap is announced once.
	f.audit("c")
	runner.Wake(Audit)
	runner.Attend()
	c.expect(Audit, "provider.create c")
	require.Len(t, f.announcements(), 2)
}

// TestGap covers how events that were deleted before a sink had them are found: by
// what is left, since nothing runs where they are deleted.
func TestGap(t *testing.T) {
	t.Parallel()
	exec := func(f *feed, statement string) {
		f.t.Helper()
		_, err := f.pool.Exec(f.t.Context(), statement)
		require.NoError(f.t, err)
	}
	announced := func(f *feed, want ...string) {
		f.t.Helper()
		eventually(f.t, func() bool { return len(f.announcements()) >= len(want) }, "gaps %q, have %q", want, f.announcements())
		require.ElementsMatch(f.t, want, f.announcements())
	}

	t.Run("NothingIsLeft", func(t *testing.T) {
		t.Parallel()
		f := newFeed(t)
		c := newConsumer(t, nil)
		c.server.Start()
		webhook := newWebhook(t, c.server.URL)
		require.NoError(t, Register(t.Context(), f.pool, Options{Sinks: []Sink{webhook}}))
		f.alert("missing a", "missing b")
		f.audit("a", "b", "c")
		exec(f, `TRUNCATE provwatch.drift_alerts, provwatch.audit_log`)
		_, stop := f.run(time.Hour, webhook)
		want := []string{
			"sink_gap: sink webhook: 2 of drift up to seq 2 were deleted before it had them",
			"sink_gap: sink webhook: 3 of audit up to seq 3 were deleted before it had them",
		}
		announced(f, want...)
		eventually(t, func() bool { return f.cursor("webhook", Drift) == 2 && f.cursor("webhook", Audit) == 3 }, "the cursors pass them")
		stop()
		// Neither another start nor a later event announces them again.
		f.alert("missing c")
		f.run(time.Hour, webhook)
		c.expect(Drift, "missing c")
		eventually(t, func() bool { return f.cursor("webhook", Drift) == 3 }, "the cursor is at the end")
		announced(f, want...)
	})

	t.Run("WhileTheSinkIsSent", func(t *testing.T) {
		t.Parallel()
		f := newFeed(t)
		sending, release := make(chan struct{}, 1), make(chan struct{})
		c := newConsumer(t, func(_ http.ResponseWriter, _ *http.Request, e received) bool {
			if e.provider == "p0" {
				sending <- struct{}{}
				<-release
			}
			return false
		})
		c.server.Start()
		// More than a queue reads at a time.
		var names, want []string
		for i := range window + 20 {
			names = append(names, fmt.Sprint("p", i))
			if i < window || i%2 == 1 {
				want = append(want, fmt.Sprint("provider.create p", i))
			}
		}
		f.audit(names...)
		f.run(time.Hour, newWebhook(t, c.server.URL))
		<-sending
		// What the queue has read is sent all the same.
		exec(f, fmt.Sprintf(`DELETE FROM provwatch.audit_log WHERE seq <= %d OR seq %% 2 = 1`, window))
		close(release)
		eventually(t, func() bool { return len(c.got(Audit)) >= len(want) }, "the consumer gets all that is left")
		require.Equal(t, want, c.got(Audit))
		eventually(t, func() bool { return f.cursor("webhook", Audit) == window+20 }, "the cursor is at the end")
		require.Equal(t, 10, f.lost(), "in %q", f.announcements())
	})

	t.Run("BehindAnEventThatFails", func(t *testing.T) {
		t.Parallel()
		f := newFeed(t)
		c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request, e received) bool {
			fails := e.provider == "a"
			if fails {
				w.WriteHeader(500)
			}
			return fails
		})
		c.server.Start()
		f.alert("missing a", "missing b", "missing c", "missing d")
		exec(f, `DELETE FROM provwatch.drift_alerts WHERE seq IN (2, 3)`)
		_, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
		c.expect(Drift, "missing d")
		require.EqualValues(t, 0, f.cursor("webhook", Drift), "the cursor does not pass what failed")
		require.Empty(t, f.announcements(), "a gap is announced when the cursor passes it")
		stop()
		// No request of the run that has stopped reaches this one.
		well := newConsumer(t, nil)
		well.server.Start()
		f.run(time.Hour, newWebhook(t, well.server.URL))
		well.expect(Drift, "missing a", "missing d")
		announced(f, "sink_gap: sink webhook: 2 of drift up to seq 3 were deleted before it had them")
	})

	t.Run("AFormerLeaderAnnouncesNone", func(t *testing.T) {
		t.Parallel()
		f := newFeed(t)
		c := newConsumer(t, nil)
		c.server.Start()
		webhook := newWebhook(t, c.server.URL)
		f.alert("missing a", "missing b")
		runner, stop := f.run(time.Hour, webhook)
		// What the consumer has taken is acknowledged to the sink later.
		eventually(t, func() bool { return f.cursor("webhook", Drift) == 2 }, "the cursor is at the end")
		stop()
		former := newDelivery(runner.shared, webhook, Drift)
		former.cursor.stored, former.cursor.seq, former.cursor.lost = 1, 4, gap{events: 2, upTo: 4}
		require.ErrorContains(t, former.save(t.Context()), "the cursor was moved meanwhile")
		require.Empty(t, f.announcements())
		require.EqualValues(t, 2, f.cursor("webhook", Drift))
		require.Zero(t, f.metrics.of("gap webhook drift"))
	})

	t.Run("NotOfASinkThatIsNew", func(t *testing.T) {
		t.Parallel()
		f := newFeed(t)
		c := newConsumer(t, nil)
		c.server.Start()
		f.alert("missing a", "missing b", "missing c")
		f.audit("a", "b")
		exec(f, `DELETE FROM provwatch.drift_alerts WHERE seq = 1`)
		exec(f, `TRUNCATE provwatch.audit_log`)
		require.NoError(t, Register(t.Context(), f.pool, Options{Sinks: []Sink{&NATS{}}}))
		require.EqualValues(t, 3, f.cursor("nats", Drift))
		require.EqualValues(t, 2, f.cursor("nats", Audit), "at the end, though no row is left")
		f.run(time.Hour, newWebhook(t, c.server.URL)) // from the first that is left
		c.expect(Drift, "missing b", "missing c")
		eventually(t, func() bool { return f.cursor("webhook", Drift) == 3 && f.cursor("webhook", Audit) == 2 }, "the cursors are at the end")
		require.Empty(t, f.announcements())
	})
}
