package sink

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestRegisterSinks checks that a new sink begins at the end, or on request at the start.
func TestRegisterSinks(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.alert("missing a")
	f.audit("a", "b")
	webhook := &Webhook{}
	require.NoError(t, Register(t.Context(), f.pool, Options{Sinks: []Sink{webhook}}))
	require.EqualValues(t, 1, f.cursor("webhook", Drift))
	require.EqualValues(t, 2, f.cursor("webhook", Audit))
	// A cursor that exists stays unchanged.
	require.NoError(t, Register(t.Context(), f.pool, Options{Sinks: []Sink{webhook, &NATS{}}, FromStart: true}))
	require.EqualValues(t, 1, f.cursor("webhook", Drift))
	require.EqualValues(t, 0, f.cursor("nats", Drift))
	require.EqualValues(t, 0, f.cursor("nats", Audit))
}

// TestNothingSentYet has a new sink that was sent nothing, beside others that were.
func TestNothingSentYet(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.alert("missing a")
	require.NoError(t, Register(t.Context(), f.pool, Options{Sinks: []Sink{&NATS{}}}))
	moved := func() map[string]bool {
		state, err := Inspect(t.Context(), f.pool)
		require.NoError(t, err)
		moved := map[string]bool{}
		for _, p := range state.Sinks {
			moved[p.Sink+" "+string(p.Stream)] = !p.MovedAt.IsZero()
		}
		return moved
	}
	require.Equal(t, map[string]bool{"nats drift": false, "nats audit": false}, moved())
	c := newConsumer(t, nil)
	c.server.Start()
	f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing a")
	eventually(t, func() bool { return moved()["webhook drift"] }, "its cursor has moved")
	require.Equal(t, map[string]bool{"nats drift": false, "nats audit": false, "webhook drift": true, "webhook audit": false}, moved())
}

// TestSubjectToken checks that a name becomes one token of a subject, and another name
// another token.
func TestSubjectToken(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		require.Regexp(t, `^[A-Za-z0-9_%-]+$`, token(a))
		require.Equal(t, a == b, token(a) == token(b))
	})
}
