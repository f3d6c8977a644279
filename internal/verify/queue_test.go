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

func TestHintsAreGatheredWithoutRepetition(t *testing.T) {
	p := NewPending()
	a, b := uuid.New(), uuid.New()
	require.False(t, p.Hint(a.String()), "the first one waits for nothing")
	require.True(t, p.Hint(b.String()))
	require.True(t, p.Hint(a.String()))
	r, ok := p.Take()
	require.True(t, ok)
	require.False(t, r.All)
	require.ElementsMatch(t, []uuid.UUID{a, b}, r.ProviderIDs)
	require.Equal(t, pubsub.SourceNotify, r.Source)
	_, ok = p.Take()
	require.False(t, ok, "taken is gone")
}

func TestWhatIsGatheredIsTakenTogether(t *testing.T) {
	p := NewPending()
	a, b := uuid.New(), uuid.New()
	p.Gather(true)
	require.False(t, p.Hint(a.String()), "the first of what is taken together")
	_, ok := p.Take()
	require.False(t, ok, "more may come")
	require.True(t, p.Hint(b.String()))
	p.All(pubsub.SourceResync)
	r, ok := p.Take()
	require.True(t, ok)
	require.Equal(t, Request{All: true, Source: pubsub.SourceResync}, r, "what else is asked for does not wait")
	require.False(t, p.Gather(false), "nothing waits")
	r, ok = p.Take()
	require.True(t, ok)
	require.ElementsMatch(t, []uuid.UUID{a, b}, r.ProviderIDs)
	require.Equal(t, pubsub.SourceNotify, r.Source)

	p.Hint(a.String())
	p.Gather(true)
	require.False(t, p.Hint(b.String()), "not known yet")
	require.True(t, p.Gather(false), "another waits")
	r, _ = p.Take()
	require.ElementsMatch(t, []uuid.UUID{a, b}, r.ProviderIDs)
}

func TestAPayloadThatIsNoProviderIDAsksForEverything(t *testing.T) {
	id := uuid.New()
	for _, payload := range []string{"", "x", "{}", "urn:uuid:" + id.String(), "{" + id.String() + "}", id.String() + " "} {
		p := NewPending()
		p.Hint(payload)
		r, ok := p.Take()
		require.True(t, ok)
		require.True(t, r.All, "%q", payload)
		require.Empty(t, r.ProviderIDs)
	}
}

func TestTooManyHintsBecomeOneRequestForEverything(t *testing.T) {
	p := NewPending()
	for range maxHints {
		p.Hint(uuid.NewString())
	}
	require.Len(t, p.hints, maxHints)
	p.Hint(uuid.NewString())
	require.Empty(t, p.hints)
	r, _ := p.Take()
	require.True(t, r.All)
}

func TestTheMostFarReachingSourceIsKept(t *testing.T) {
	p := NewPending()
	p.Hint(uuid.NewString())
	p.All(pubsub.SourceReload)
	p.Hint("garbage")
	r, _ := p.Take()
	require.Equal(t, pubsub.SourceReload, r.Source)

	p.Hint("")
	p.All(pubsub.SourceReload)
	r, _ = p.Take()
	require.Equal(t, pubsub.SourceReload, r.Source, "over a request for everything that a notification made")

	p.All(pubsub.SourceResync)
	p.Again(r)
	r, _ = p.Take()
	require.Equal(t, pubsub.SourceReload, r.Source, "put back over a resync")
}

func TestAFailedRequestIsPutBackWithWhatCameMeanwhile(t *testing.T) {
	p := NewPending()
	a, b := uuid.New(), uuid.New()
	p.Hint(a.String())
	failed, _ := p.Take()
	<-p.Ready()
	p.Hint(b.String())
	p.Again(failed)
	<-p.Ready()
	r, ok := p.Take()
	require.True(t, ok)
	require.ElementsMatch(t, []uuid.UUID{a, b}, r.ProviderIDs)

	p.All(pubsub.SourceBoot)
	failed, _ = p.Take()
	p.Again(failed)
	r, _ = p.Take()
	require.True(t, r.All)
	require.Equal(t, pubsub.SourceBoot, r.Source)
}

// TestNothingAskedForIsEverLost checks the set against a model: what is taken
// covers what was asked for since the last take, whatever the order of calls.
func TestNothingAskedForIsEverLost(t *testing.T) {
	ids := make([]uuid.UUID, 8)
	for i := range ids {
		ids[i] = uuid.New()
	}
	rapid.Check(t, func(t *rapid.T) {
		p := NewPending()
		all, hinted := false, map[uuid.UUID]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"hint": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				p.Hint(id.String())
				hinted[id] = true
			},
			"garbage": func(t *rapid.T) {
				p.Hint("garbage")
				all = true
			},
			"all": func(t *rapid.T) {
				p.All(rapid.SampledFrom([]pubsub.Source{pubsub.SourceBoot, pubsub.SourceResync, pubsub.SourceReload}).Draw(t, "source"))
				all = true
			},
			"gather": func(t *rapid.T) {
				// All of these are among what is taken next.
				p.Gather(true)
				for _, id := range rapid.SliceOf(rapid.SampledFrom(ids)).Draw(t, "gathered") {
					p.Hint(id.String())
					hinted[id] = true
				}
				p.Gather(false)
			},
			"take": func(t *rapid.T) {
				r, ok := p.Take()
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

func TestConcurrentNotificationsAreAllSeen(t *testing.T) {
	p := NewPending()
	const senders, each = 8, 200
	var group sync.WaitGroup
	want := make(chan uuid.UUID, senders*each)
	for range senders {
		group.Go(func() {
			for range each {
				id := uuid.New()
				p.Hint(id.String())
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
		r, _ := p.Take()
		everything = everything || r.All
		for _, id := range r.ProviderIDs {
			seen[id] = true
		}
	}
	for running := true; running; {
		select {
		case <-p.Ready():
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
