//go:build e2e

package sink

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestNATSServer(t *testing.T) {
	t.Parallel()
	t.Run("Restarts", testNATSServerRestarts)
	t.Run("Refusals", testNATSServerRefusals)
	t.Run("RecreatedStream", testNATSServerRecreatedStream)
}

// testNATSServerRestarts checks that every event is sent once over restarts of either
// side.
func testNATSServerRestarts(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	n := startNATS(t)
	f.alert("changed a", "missing b")
	f.audit("a.b *")
	// No stream has this subject.
	runner, stop := f.run(time.Hour, n.sink("FLEET"))
	eventually(t, func() bool { return f.metrics.of("failed nats drift") > 0 && f.metrics.of("failed nats audit") > 0 }, "no stream takes it")
	stream := n.stream(jetstream.StreamConfig{Name: "FLEET", Subjects: []string{"ops.provwatch.>"}})
	// What is stored can still lack its acknowledgement, which a stop would then lose.
	eventually(t, func() bool {
		return f.metrics.of("delivered nats drift") == 2 && f.metrics.of("delivered nats audit") == 1
	}, "all of it is acknowledged")
	require.ElementsMatch(t, []string{"drift.a changed", "drift.b missing", "audit.a%2Eb%20%2A provider.create"}, kinds(t, stream.messages()))

	failed := f.metrics.of("failed nats drift")
	n.stop()
	f.alert("resolved a")
	runner.Wake(Drift)
	eventually(t, func() bool { return f.metrics.of("failed nats drift") > failed }, "the server is away")
	n.start()
	stream.wait(4, "it comes when the server is back")
	stop()

	// A worker that was killed before its cursor moved repeats what it sent.
	_, err := f.pool.Exec(t.Context(), `UPDATE provwatch.sink_cursors SET seq = 0`)
	require.NoError(t, err)
	f.alert("resolved b")
	f.run(time.Hour, n.sink("FLEET"))
	eventually(t, func() bool { return f.cursor("nats", Drift) == 4 && f.cursor("nats", Audit) == 1 }, "all is acknowledged")
	require.Len(t, stream.messages(), 5, "the stream drops repeats by the id")
	require.Empty(t, f.letters())
}

// testNATSServerRefusals has an event that is too large, and a stream that is not the
// configured one.
func testNATSServerRefusals(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	n := startNATS(t)
	stream := n.stream(jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"ops.provwatch.>"}, MaxMsgSize: 8 << 10})
	f.alert("changed a", "missing b") // the first is larger
	_, stop := f.run(time.Hour, n.sink(""))
	eventually(t, func() bool { return f.cursor("nats", Drift) == 2 }, "the cursor is at the end")
	stop()
	require.Equal(t, []string{"drift.b missing"}, kinds(t, stream.messages()))
	require.Len(t, f.letters(), 1)
	require.Contains(t, f.letters()[0].Reason, "message size exceeds maximum allowed")

	s := n.sink("")
	err := s.Send(t.Context(), Event{Stream: Drift, Provider: "a", Data: []byte(`"` + strings.Repeat("x", 64<<10) + `"`)})
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "maximum payload exceeded")
	require.ErrorAs(t, s.Send(t.Context(), Event{Stream: Audit, Provider: strings.Repeat("x", maxSubject), Data: []byte("{}")}), &refused)

	err = n.sink("OTHER").Send(t.Context(), Event{Stream: Drift, Provider: "a", Data: []byte("{}")})
	require.ErrorContains(t, err, "expected stream does not match")
	require.NotErrorAs(t, err, &refused)
}

// testNATSServerRecreatedStream checks that a stream that is deleted and created again
// gets what came meanwhile.
func testNATSServerRecreatedStream(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	n := startNATS(t)
	config := jetstream.StreamConfig{Name: "FLEET", Subjects: []string{"ops.provwatch.>"}}
	stream := n.stream(config)
	f.alert("missing a")
	runner, _ := f.run(time.Hour, n.sink("FLEET"))
	// What is stored can still lack its acknowledgement, without which it is sent again.
	eventually(t, func() bool { return f.metrics.of("delivered nats drift") == 1 }, "it is acknowledged")
	require.Len(t, stream.messages(), 1)
	conn, err := nats.Connect(n.url())
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	require.NoError(t, js.DeleteStream(t.Context(), "FLEET"))
	f.alert("resolved a", "missing b")
	runner.Wake(Drift)
	eventually(t, func() bool { return f.metrics.of("failed nats drift") > 0 }, "no stream takes it")
	messages := n.stream(config).wait(2, "what came meanwhile is in the stream")
	require.ElementsMatch(t, []string{"drift.a resolved", "drift.b missing"}, kinds(t, messages))
}

func kinds(t *testing.T, messages []*jetstream.RawStreamMsg) (list []string) {
	t.Helper()
	for _, m := range messages {
		event, err := parse(m.Data)
		require.NoError(t, err)
		require.Equal(t, event.ID(), m.Header.Get(nats.MsgIdHdr))
		require.Equal(t, "application/cloudevents+json", m.Header.Get("Content-Type"))
		list = append(list, strings.TrimPrefix(m.Subject, "ops.provwatch.fleet%207.")+" "+event.kind)
	}
	return list
}
