package verify

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/pubsub"
)

// take gets what waits, and ends its verification.
func take(q *Queue) (Request, bool) {
	r, ok := q.Get()
	if ok {
		q.Done()
	}
	return r, ok
}

func TestQueue(t *testing.T) {
	t.Run("OneRequestAtATime", testQueueOneRequestAtATime)
	t.Run("RepeatedHints", testQueueRepeatedHints)
	t.Run("TakenTogether", testQueueTakenTogether)
	t.Run("ForeignPayload", testQueueForeignPayload)
	t.Run("TooManyHints", testQueueTooManyHints)
	t.Run("WidestSource", testQueueWidestSource)
	t.Run("FailedRequest", testQueueFailedRequest)
	t.Run("Events", testQueueEvents)
	t.Run("AgainstAModel", testQueueAgainstAModel)
	t.Run("ConcurrentNotifications", testQueueConcurrentNotifications)
}

func testQueueOneRequestAtATime(t *testing.T) {
	q := NewQueue()
	q.Add(Everything(pubsub.SourceBoot))
	<-q.Ready()
	first, ok := q.Get()
	require.True(t, ok)
	require.Equal(t, Everything(pubsub.SourceBoot), first)
	q.Add(Everything(pubsub.SourceReload))
	require.Empty(t, q.Ready(), "the reload waits")
	_, ok = q.Get()
	require.False(t, ok)

	q.Done()
	<-q.Ready()
	second, ok := q.Get()
	require.True(t, ok)
	require.Equal(t, Everything(pubsub.SourceReload), second)
	q.Done()
	require.Empty(t, q.Ready(), "nothing waits")

	// A token that is left over is no request.
	q.Add(Everything(pubsub.SourceResync))
	_, _ = q.Get()
	<-q.Ready()
	_, ok = q.Get()
	require.False(t, ok)
}

func testQueueRepeatedHints(t *testing.T) {
	q := NewQueue()
	a, b := uuid.New(), uuid.New()
	require.False(t, q.Hint(a.String()), "the first one waits for nothing")
	require.True(t, q.Hint(b.String()))
	require.True(t, q.Hint(a.String()))
	r, ok := take(q)
	require.True(t, ok)
	require.False(t, r.All)
	require.ElementsMatch(t, []uuid.UUID{a, b}, r.ProviderIDs)
	require.Equal(t, pubsub.SourceNotify, r.Source)
	_, ok = take(q)
	require.False(t, ok, "taken is gone")
}

func testQueueTakenTogether(t *testing.T) {
	q := NewQueue()
	a, b := uuid.New(), uuid.New()
	q.Gather(true)
	require.False(t, q.Hint(a.String()), "the first of what is taken together")
	_, ok := take(q)
	require.False(t, ok, "more may come")
	require.True(t, q.Hint(b.String()))
	q.Add(Everything(pubsub.SourceResync))
	r, ok := take(q)
	require.True(t, ok)
	require.Equal(t, Request{All: true, Source: pubsub.SourceResync}, r, "what else is asked for does not wait")
	require.False(t, q.Gather(false), "nothing waits")
	r, ok = take(q)
	require.True(t, ok)
	require.ElementsMatch(t, []uuid.UUID{a, b}, r.ProviderIDs)
	require.Equal(t, pubsub.SourceNotify, r.Source)

	q.Hint(a.String())
	q.Gather(true)
	require.False(t, q.Hint(b.String()), "not known yet")
	require.True(t, q.Gather(false), "another waits")
	r, _ = take(q)
	require.ElementsMatch(t, []uuid.UUID{a, b}, r.ProviderIDs)
}

// testQueueForeignPayload checks that a payload that is no provider's ID asks for
// everything.
func testQueueForeignPayload(t *testing.T) {
	id := uuid.New()
	for _, payload := range []string{"", "x", "{}", "urn:uuid:" + id.String(), "{" + id.String() + "}", id.String() + " "} {
		q := NewQueue()
		q.Hint(payload)
		r, ok := take(q)
		require.True(t, ok)
		require.True(t, r.All, "%q", payload)
		require.Empty(t, r.ProviderIDs)
	}
}

// testQueueTooManyHints checks that too many hints become one request for everything.
func testQueueTooManyHints(t *testing.T) {
	q := NewQueue()
	for range maxHints {
		q.Hint(uuid.NewString())
	}
	require.Len(t, q.waiting.hints, maxHints)
	q.Hint(uuid.NewString())
	require.Empty(t, q.waiting.hints)
	r, _ := take(q)
	require.True(t, r.All)
}

// testQueueWidestSource checks that the most far-reaching source is kept.
func testQueueWidestSource(t *testing.T) {
	q := NewQueue()
	q.Hint(uuid.NewString())
	q.Add(Everything(pubsub.SourceReload))
	q.Hint("garbage")
	r, _ := take(q)
	require.Equal(t, pubsub.SourceReload, r.Source)

	q.Hint("")
	q.Add(Everything(pubsub.SourceReload))
	r, _ = q.Get()
	require.Equal(t, pubsub.SourceReload, r.Source, "over a request for everything that a notification made")

	q.Add(Everything(pubsub.SourceResync))
	q.Retry(r)
	r, _ = take(q)
	require.Equal(t, pubsub.SourceReload, r.Source, "put back over a resync")
}

// testQueueFailedRequest checks that a failed request is put back with what came
// meanwhile.
func testQueueFailedRequest(t *testing.T) {
	q := NewQueue()
	a, b := uuid.New(), uuid.New()
	q.Hint(a.String())
	failed, _ := q.Get()
	<-q.Ready()
	q.Hint(b.String())
	q.Retry(failed)
	<-q.Ready()
	r, ok := take(q)
	require.True(t, ok)
	require.ElementsMatch(t, []uuid.UUID{a, b}, r.ProviderIDs)

	q.Add(Everything(pubsub.SourceBoot))
	failed, _ = q.Get()
	q.Retry(failed)
	r, _ = take(q)
	require.True(t, r.All)
	require.Equal(t, pubsub.SourceBoot, r.Source)
}

// testQueueEvents checks that a request has the events before it, also when it has failed, and
// none that came while it was under way.
func testQueueEvents(t *testing.T) {
	q := NewQueue()
	q.Add(Everything(pubsub.SourceResync).After(Reconnected))
	failed, _ := q.Get()
	require.Equal(t, Reconnected, failed.Events)
	q.Add(Everything(pubsub.SourceReload).After(Reloaded))
	require.False(t, failed.Events.Has(Reloaded))
	q.Retry(failed)
	q.Hint(uuid.NewString())
	r, _ := take(q)
	require.Equal(t, Reconnected|Reloaded, r.Events)
	q.Add(Everything(pubsub.SourceResync))
	r, _ = take(q)
	require.Zero(t, r.Events, "once")
}

// testQueueAgainstAModel checks the queue against a model: a request covers what was asked
// for since the one before, whatever the order of calls.
func testQueueAgainstAModel(t *testing.T) {
	ids := make([]uuid.UUID, 8)
	for i := range ids {
		ids[i] = uuid.New()
	}
	rapid.Check(t, func(t *rapid.T) {
		q := NewQueue()
		all, hinted := false, map[uuid.UUID]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"hint": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				q.Hint(id.String())
				hinted[id] = true
			},
			"garbage": func(t *rapid.T) {
				q.Hint("garbage")
				all = true
			},
			"all": func(t *rapid.T) {
				q.Add(Everything(rapid.SampledFrom([]pubsub.Source{pubsub.SourceBoot, pubsub.SourceResync, pubsub.SourceReload}).Draw(t, "source")))
				all = true
			},
			"gather": func(t *rapid.T) {
				// All of these are among what is taken next.
				q.Gather(true)
				for _, id := range rapid.SliceOf(rapid.SampledFrom(ids)).Draw(t, "gathered") {
					q.Hint(id.String())
					hinted[id] = true
				}
				q.Gather(false)
			},
			"take": func(t *rapid.T) {
				r, ok := take(q)
				if ok != (all || len(hinted) > 0) || r.All != all {
					t.Fatalf("took %+v, %t; want all %t and %d hints", r, ok, all, len(hinted))
				}
				if !all && len(r.ProviderIDs) != len(hinted) {
					t.Fatalf("took %d hints, want %d", len(r.ProviderIDs), len(hinted))
				}
				all = false
				clear(hinted)
			},
		})
	})
}

func testQueueConcurrentNotifications(t *testing.T) {
	q := NewQueue()
	const senders, each = 8, 200
	var group sync.WaitGroup
	want := make(chan uuid.UUID, senders*each)
	for range senders {
		group.Go(func() {
			for range each {
				id := uuid.New()
				q.Hint(id.String())
				want <- id
			}
		})
	}
	stop := make(chan struct{})
	go func() {
		group.Wait()
		close(want)
		close(stop)
	}()
	seen := map[uuid.UUID]bool{}
	everything := false
	take := func() {
		r, _ := take(q)
		everything = everything || r.All
		for _, id := range r.ProviderIDs {
			seen[id] = true
		}
	}
	for running := true; running; {
		select {
		case <-q.Ready():
			take()
		case <-stop:
			running = false
		}
	}
	take()
	for id := range want {
		require.True(t, everything || seen[id], fmt.Sprint(id))
	}
}
