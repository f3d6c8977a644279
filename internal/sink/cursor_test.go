package sink

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/store"
)

func TestCursor(t *testing.T) {
	t.Parallel()
	t.Run("FormerLeader", testCursorFormerLeader)
	t.Run("FormerEpoch", testCursorFormerEpoch)
	t.Run("Deleted", testCursorDeleted)
	t.Run("AheadOfAlerts", testCursorAheadOfAlerts)
}

// testCursorFormerLeader checks that a worker that no longer leads sends nothing and moves
// no cursor.
func testCursorFormerLeader(t *testing.T) {
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
	former := newDelivery(runner.shared, newWebhook(t, c.server.URL), Drift)
	require.NoError(t, former.start(t.Context()))
	_, err := f.pool.Exec(t.Context(), `UPDATE provwatch.sink_cursors SET seq = 3, moved_at = clock_timestamp() WHERE stream = 'drift'`)
	require.NoError(t, err)
	for _, seq := range []int64{1, 4} {
		former.cursor.seq = seq
		require.ErrorIs(t, former.save(t.Context()), errCursorMoved)
	}
	require.ErrorIs(t, former.deadLetters.bury(t.Context(), &former.cursor, Event{Seq: 3, Provider: "a"}, context.Canceled, 1), errCursorMoved)
	require.EqualValues(t, 3, f.cursor("webhook", Drift))
	require.Empty(t, f.letters())
}

// testCursorFormerEpoch has a rewind that leaves the cursor where it is: a worker that
// counts in the former epoch would move it over what the sink was not sent.
func testCursorFormerEpoch(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	c := newConsumer(t, nil)
	c.server.Start()
	f.alert("missing a", "missing b")
	runner, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 2 }, "the cursor is at the end")
	stop()
	former := newDelivery(runner.shared, newWebhook(t, c.server.URL), Drift)
	require.NoError(t, former.start(t.Context()))
	former.cursor.seq = 4

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
	require.ErrorIs(t, former.deadLetters.bury(t.Context(), &former.cursor, Event{Seq: 3, Provider: "a"}, context.Canceled, 1), errCursorMoved)
	require.EqualValues(t, 2, f.cursor("webhook", Drift))

	// The cursor is read again, and what comes is sent.
	require.NoError(t, former.start(t.Context()))
	former.cursor.seq = 5
	require.NoError(t, former.save(t.Context()))
	former.cursor.seq = 6
	require.NoError(t, former.save(t.Context()), "it owns what it has moved")
	require.EqualValues(t, 6, f.cursor("webhook", Drift))
}

// testCursorDeleted checks that a sink whose cursor is deleted starts over and keeps its
// dead letters.
func testCursorDeleted(t *testing.T) {
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

// testCursorAheadOfAlerts has a cursor beyond the last alert, as a restore of the other
// tables leaves it, until it is set back.
func testCursorAheadOfAlerts(t *testing.T) {
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
