package sink

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestFailures covers which event is sent next after some have failed.
func TestFailures(t *testing.T) {
	t.Parallel()
	event := func(seq int64, provider string) Event { return Event{Seq: seq, ID: uuid.New(), Provider: provider} }
	now := time.Now()

	t.Run("OneProviderWaits", func(t *testing.T) {
		t.Parallel()
		f, p := newFailures(time.Second, time.Hour), newPending(0)
		p.add([]Event{event(1, "a"), event(2, "a"), event(3, "b")})
		next, _ := f.next(p, now)
		require.EqualValues(t, 1, next.Seq)
		giveUp, wait, left := f.fail("a", errors.New("failed"), now)
		require.False(t, giveUp)
		require.Equal(t, time.Hour, left)
		next, _ = f.next(p, now)
		require.EqualValues(t, 3, next.Seq, "the first of another provider")
		f.succeed()
		p.finish(next)
		next, until := f.next(p, now)
		require.Nil(t, next)
		require.Equal(t, wait, until)
		next, _ = f.next(p, now.Add(wait))
		require.EqualValues(t, 1, next.Seq)
		seq, _ := p.pass()
		require.Zero(t, seq, "the cursor does not pass what failed")
	})

	t.Run("TwoProvidersPauseTheSink", func(t *testing.T) {
		t.Parallel()
		f, p := newFailures(time.Second, time.Hour), newPending(0)
		p.add([]Event{event(1, "a"), event(2, "b"), event(3, "c")})
		f.fail("a", errors.New("failed"), now)
		f.fail("b", errors.New("failed"), now)
		next, until := f.next(p, now)
		require.Nil(t, next)
		require.Positive(t, until)
		next, _ = f.next(p, now.Add(maxRetry))
		require.NotNil(t, next)
	})

	t.Run("ASinkThatIsBusyIsNotSentAnything", func(t *testing.T) {
		t.Parallel()
		f, p := newFailures(time.Millisecond, time.Hour), newPending(0)
		p.add([]Event{event(1, "a"), event(2, "b")})
		f.fail("a", fmt.Errorf("wrapped: %w", &BusyError{Reason: "HTTP 429", After: 2 * time.Minute}), now)
		next, wait := f.next(p, now)
		require.Nil(t, next, "of no provider, since the sink asks for it")
		require.Equal(t, 2*time.Minute, wait)
		next, _ = f.next(p, now.Add(2*time.Minute))
		require.EqualValues(t, 1, next.Seq)
	})

	t.Run("GivesUp", func(t *testing.T) {
		t.Parallel()
		f := newFailures(time.Second, time.Hour)
		giveUp, _, _ := f.fail("a", &RefusedError{Reason: "HTTP 400"}, now)
		require.True(t, giveUp, "a refusal at once")
		f.end("a")
		giveUp, _, _ = f.fail("a", errors.New("failed"), now)
		require.False(t, giveUp)
		giveUp, _, left := f.fail("a", errors.New("failed"), now.Add(time.Hour-time.Second))
		require.False(t, giveUp)
		require.Equal(t, time.Second, left)
		giveUp, _, _ = f.fail("a", errors.New("failed"), now.Add(time.Hour))
		require.True(t, giveUp)
		require.Equal(t, 3, f.attempts("a"))
	})
}

// TestPending covers the seq that the cursor may move to.
func TestPending(t *testing.T) {
	t.Parallel()
	p := newPending(10)
	p.add([]Event{{Seq: 11, ID: uuid.New()}, {Seq: 14, ID: uuid.New()}})
	p.end(16)
	seq, lost := p.pass()
	require.EqualValues(t, 10, seq)
	require.Zero(t, lost)

	p.finish(p.items[0])
	seq, lost = p.pass()
	require.EqualValues(t, 13, seq, "up to the event that is not done")
	require.Equal(t, gap{events: 2, upTo: 13}, lost)

	p.finish(p.items[0])
	seq, lost = p.pass()
	require.EqualValues(t, 16, seq)
	require.Equal(t, gap{events: 2, upTo: 16}, lost)
	require.Zero(t, p.undone)
}

// TestPendingPruned has events missing of which some were pruned, and others deleted.
func TestPendingPruned(t *testing.T) {
	t.Parallel()
	p := newPending(10)
	require.False(t, p.hasHole(nil, 10))
	require.True(t, p.hasHole(nil, 11))
	require.False(t, p.hasHole([]Event{{Seq: 11}, {Seq: 11}, {Seq: 12}}, 12), "rows of others can have the seq of an entry")
	require.True(t, p.hasHole([]Event{{Seq: 11}, {Seq: 13}}, 13))
	p.pruned = 14
	p.add([]Event{{Seq: 12, ID: uuid.New()}, {Seq: 17, ID: uuid.New()}})
	p.finish(p.items[1])
	seq, lost := p.pass()
	require.EqualValues(t, 16, seq)
	require.Equal(t, gap{events: 2, upTo: 16, pruned: 14}, lost)
}
