package sink

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/store"
)

func TestDelivery(t *testing.T) {
	t.Parallel()
	t.Run("FailingProvider", testDeliveryFailingProvider)
	t.Run("DeadLetter", testDeliveryDeadLetter)
	t.Run("RequestDuringARetry", testDeliveryRequestDuringARetry)
	t.Run("HangingSink", testDeliveryHangingSink)
	t.Run("SeenBeforeSent", testDeliverySeenBeforeSent)
}

// testDeliverySeenBeforeSent checks that this process knows how far alerts have got before a sink does:
// by that it finds a restore that sets the sequence back.
func testDeliverySeenBeforeSent(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	epoch, err := store.On(f.pool).ReadEpoch(t.Context())
	require.NoError(t, err)
	c := newConsumer(t, func(_ http.ResponseWriter, _ *http.Request, e received) bool {
		if e.stream == Drift && f.lastSeen(epoch) == 0 {
			t.Error("an alert was sent before it was seen")
		}
		return false
	})
	c.server.Start()
	f.alert("missing a")
	runner, _ := f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing a")
	f.alert("resolved a", "missing a")
	runner.Wake(Drift)
	c.expect(Drift, "missing a", "resolved a", "missing a")
	require.EqualValues(t, 3, f.lastSeen(epoch))
}

// testDeliveryFailingProvider checks that a provider whose event fails holds back no
// other.
func testDeliveryFailingProvider(t *testing.T) {
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

	// The next leader repeats what was delivered beyond it.
	stop()
	next := newConsumer(t, c.fail) // no request of the run that has stopped reaches it
	next.server.Start()
	f.run(time.Hour, newWebhook(t, next.server.URL))
	next.expect(Drift, "missing b", "resolved b", "missing b")
	ill.Store(false)
	next.expect(Drift, "missing b", "resolved b", "missing b", "missing a", "resolved a")
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 5 }, "the cursor is at the end")
}

// testDeliveryDeadLetter checks that an event that is not taken in time is a dead letter
// until it is taken.
func testDeliveryDeadLetter(t *testing.T) {
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

	// A dead letter whose row was deleted stays.
	code.Store(410)
	f.alert("missing a")
	runner.Wake(Drift)
	eventually(t, func() bool { return len(f.letters()) == 1 }, "another dead letter")
	_, err := f.pool.Exec(t.Context(), `DELETE FROM provwatch.drift_alerts`)
	require.NoError(t, err)
	require.EqualValues(t, 1, retry("webhook", "", true))
	eventually(t, func() bool { return f.letters()[0].Reason == "its row was deleted" }, "it is said why")
}

// testDeliveryRequestDuringARetry has an operator request a retry of a dead letter while one is
// under way, which then fails. The dead letter is sent once more.
func testDeliveryRequestDuringARetry(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	const failing = 3 // two until the event is a dead letter, and its first retry
	var attempts atomic.Int64
	c := newConsumer(t, func(w http.ResponseWriter, r *http.Request, _ received) bool {
		attempt := attempts.Add(1)
		if attempt == failing {
			if _, err := Retry(r.Context(), f.pool, "", "", true, nil); err != nil {
				t.Error(err)
			}
		}
		if attempt <= failing {
			w.WriteHeader(500)
		}
		return attempt <= failing
	})
	c.server.Start()
	f.alert("missing a")
	runner, _ := f.run(time.Nanosecond, newWebhook(t, c.server.URL))
	eventually(t, func() bool { return len(f.letters()) == 1 }, "there is a dead letter")
	require.EqualValues(t, failing-1, attempts.Load())
	asked, err := Retry(t.Context(), f.pool, "", "", true, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, asked)
	runner.Attend()
	eventually(t, func() bool { return len(f.letters()) == 0 }, "the dead letter is taken")
	c.expect(Drift, "missing a")
	require.EqualValues(t, failing+1, attempts.Load())
}

// testDeliveryHangingSink checks that a sink that hangs delays no other and holds no
// connection.
func testDeliveryHangingSink(t *testing.T) {
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
