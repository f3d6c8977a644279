package sink

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/store"
)

func TestAProviderWhoseEventFailsHoldsBackNoOther(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	var ill atomic.Bool
	ill.Store(true)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request, e received) bool {
		fails := ill.Load() && e.provider == "a"
		if fails {
			w.WriteHeader(500)
		}
		return fails
	})
	c.server.Start()
	f.alert("missing a", "missing b", "resolved a", "resolved b")
	runner, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing b", "resolved b")
	f.alert("missing b")
	runner.Wake(Drift)
	c.expect(Drift, "missing b", "resolved b", "missing b")
	require.EqualValues(t, 0, f.cursor("webhook", Drift), "it does not pass what was not acknowledged")

	// What was delivered beyond it is repeated by whoever goes on.
	stop()
	f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing b", "resolved b", "missing b", "missing b", "resolved b", "missing b")
	ill.Store(false)
	c.expect(Drift, "missing b", "resolved b", "missing b", "missing b", "resolved b", "missing b", "missing a", "resolved a")
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 5 }, "the cursor is at the end")
}

func TestWhatIsNotTakenInTimeIsADeadLetterUntilItIsTakenAfterAll(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	var code atomic.Int64
	code.Store(500)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request, e received) bool {
		if e.provider == "a" && code.Load() != 200 {
			w.WriteHeader(int(code.Load()))
			return true
		}
		return false
	})
	c.server.Start()
	f.alert("missing a", "missing b")
	f.audit("a")
	runner, _ := f.run(time.Nanosecond, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing b")
	eventually(t, func() bool { return len(f.letters()) == 2 }, "dead letters of both streams")
	require.Equal(t, "HTTP 500 Internal Server Error", f.letters()[0].Reason)
	require.Len(t, f.announcements(), 2)

	retry := func(sink string, stream Stream, all bool, seqs ...int64) int64 {
		asked, err := Retry(t.Context(), f.pool, sink, stream, all, seqs)
		require.NoError(t, err)
		runner.Attend() // as the notification makes the daemon do
		return asked
	}
	code.Store(502)
	require.EqualValues(t, 1, retry("webhook", Drift, false, 1))
	eventually(t, func() bool { return f.letters()[0].Attempts == 3 }, "it is tried again")
	require.Equal(t, "HTTP 502 Bad Gateway", f.letters()[0].Reason)
	require.False(t, f.letters()[0].Retry, "once")
	require.Equal(t, 2, f.letters()[1].Attempts, "it alone")

	code.Store(200)
	require.EqualValues(t, 0, retry("webhook", "", false, 7))
	require.EqualValues(t, 0, retry("nats", "", true))
	require.EqualValues(t, 2, retry("", "", true))
	eventually(t, func() bool { return len(f.letters()) == 0 }, "dead letters are taken")
	c.expect(Drift, "missing b", "missing a")
	c.expect(Audit, "provider.create a")

	// One whose row is gone stays.
	code.Store(410)
	f.alert("missing a")
	runner.Wake(Drift)
	eventually(t, func() bool { return len(f.letters()) == 1 }, "another dead letter")
	_, err := f.pool.Exec(t.Context(), `DELETE FROM provwatch.drift_alerts`)
	require.NoError(t, err)
	require.EqualValues(t, 1, retry("webhook", "", true))
	eventually(t, func() bool { return f.letters()[0].Reason == "its row was deleted" }, "it is said why")
}

func TestASinkThatHangsDelaysNoOtherAndHoldsNoConnection(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	hanging := newConsumer(t, func(_ http.ResponseWriter, r *http.Request, _ received) bool { <-r.Context().Done(); return true })
	hanging.server.Start()
	other := newAlertmanagerServer(t)
	f.alert("missing a")
	runner, stop := f.run(time.Hour, newWebhook(t, hanging.server.URL), newAlertmanager(t, other))
	for i := range 3 {
		other.expectFiring("a missing")
		f.alert("resolved a")
		runner.Wake(Drift)
		other.expectFiring()
		eventually(t, func() bool { return f.pool.Stat().AcquiredConns() == 0 }, "no connection is held in round %d", i)
		f.alert("missing a")
		runner.Wake(Drift)
	}
	require.Zero(t, f.metrics.of("delivered webhook drift"))
	// It is not waited for, either.
	stop()
	require.Zero(t, f.cursor("webhook", Drift))
}

func TestEventsDeletedBeforeASinkHadThemAreAnnounced(t *testing.T) {
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
		former := newQueue(runner, webhook, Drift)
		former.saved, former.cursor, former.lost = 1, 4, gap{2, 4}
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

func TestAWorkerThatNoLongerLeadsSendsNothingAndMovesNoCursor(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	c := newConsumer(t, nil)
	c.server.Start()
	f.alert("missing a", "missing b")
	_, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing a", "missing b")
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 2 }, "the cursor is at the end")
	stop()

	f.mu.Lock()
	f.deposed = true
	f.mu.Unlock()
	f.alert("resolved a")
	runner, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
	runner.Wake(Drift)
	stop()
	c.expect(Drift, "missing a", "missing b")

	// What it still has under way moves no cursor, back or ahead, and makes no dead letter.
	former := newQueue(runner, newWebhook(t, c.server.URL), Drift)
	require.NoError(t, former.start(t.Context()))
	_, err := f.pool.Exec(t.Context(), `UPDATE provwatch.sink_cursors SET seq = 3, moved_at = clock_timestamp() WHERE stream = 'drift'`)
	require.NoError(t, err)
	for _, seq := range []int64{1, 4} {
		former.cursor = seq
		require.ErrorIs(t, former.save(t.Context()), errCursorMoved)
	}
	require.ErrorIs(t, former.bury(t.Context(), &item{Event: Event{Seq: 3, Provider: "a"}}, context.Canceled, 1), errCursorMoved)
	require.EqualValues(t, 3, f.cursor("webhook", Drift))
	require.Empty(t, f.letters())
}

// TestACursorOfAFormerEpochIsNotMoved has a rewind that leaves the cursor where it is: a
// worker that counts in the former epoch would move it over what the sink was not sent.
func TestACursorOfAFormerEpochIsNotMoved(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	c := newConsumer(t, nil)
	c.server.Start()
	f.alert("missing a", "missing b")
	runner, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 2 }, "the cursor is at the end")
	stop()
	former := newQueue(runner, newWebhook(t, c.server.URL), Drift)
	require.NoError(t, former.start(t.Context()))
	former.cursor = 4

	f.alert("resolved a", "resolved b")
	counter, err := store.On(f.pool).ReadCounter(t.Context())
	require.NoError(t, err)
	rewound, err := store.On(f.pool).Rewind(t.Context(), store.RewindParams{
		Term: counter.Term, Generation: counter.Generation, Seq: 5, Epoch: uuid.New(), ID: uuid.New(), Source: "resync", DetectedAt: time.Now(), Reason: "a test", Payload: "{}",
	})
	require.NoError(t, err)
	require.Len(t, rewound, 1)
	require.EqualValues(t, 2, f.cursor("webhook", Drift))

	require.ErrorIs(t, former.save(t.Context()), errCursorMoved)
	require.ErrorIs(t, former.bury(t.Context(), &item{Event: Event{Seq: 3, Provider: "a"}}, context.Canceled, 1), errCursorMoved)
	require.EqualValues(t, 2, f.cursor("webhook", Drift))

	// The cursor is read again, and what comes is sent.
	require.NoError(t, former.start(t.Context()))
	former.cursor = 5
	require.NoError(t, former.save(t.Context()))
	former.cursor = 6
	require.NoError(t, former.save(t.Context()), "it owns what it has moved")
	require.EqualValues(t, 6, f.cursor("webhook", Drift))
}

func TestASinkWhoseCursorIsDeletedBeginsAnewAndKeepsItsDeadLetters(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	var refuses atomic.Bool
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request, _ received) bool {
		if refuses.Load() {
			w.WriteHeader(http.StatusGone)
		}
		return refuses.Load()
	})
	c.server.Start()
	f.alert("missing a")
	runner, _ := f.run(time.Hour, newWebhook(t, c.server.URL))
	forget := func() {
		t.Helper()
		_, err := f.pool.Exec(t.Context(), `DELETE FROM provwatch.sink_cursors WHERE sink = 'webhook' AND stream = 'drift'`)
		require.NoError(t, err)
	}
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 1 }, "the cursor is at the end")
	forget()
	f.alert("missing b")
	runner.Wake(Drift)
	c.expect(Drift, "missing a", "missing b", "missing a", "missing b")
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 2 }, "the cursor is at the end")

	refuses.Store(true)
	forget()
	f.alert("missing c")
	runner.Wake(Drift)
	eventually(t, func() bool { return len(f.letters()) == 3 }, "all of it is refused, and kept as dead letters")
}

// TestASinkThatIsAheadOfTheAlertsWaits has a cursor beyond the last alert, as a restore of
// the other tables leaves it, until it is set back.
func TestASinkThatIsAheadOfTheAlertsWaits(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	c := newConsumer(t, nil)
	c.server.Start()
	f.alert("missing a", "missing b")
	webhook := newWebhook(t, c.server.URL)
	runner, _ := f.run(time.Hour, webhook)
	c.expect(Drift, "missing a", "missing b")
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 2 }, "the cursor is stored")
	exec := func(statement string) {
		t.Helper()
		_, err := f.pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	exec(`DELETE FROM provwatch.drift_alerts`)
	exec(`UPDATE provwatch.alert_counter SET last_seq = 0`)
	f.alert("missing c") // of a seq that it was sent
	runner.Wake(Drift)
	exec(`UPDATE provwatch.sink_cursors SET seq = 0 WHERE stream = 'drift'`)
	c.expect(Drift, "missing a", "missing b", "missing c")
	require.Empty(t, f.announcements(), "nothing was deleted")
}
