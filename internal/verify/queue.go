package verify

import (
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"provwatch/internal/pubsub"
)

// maxHints is how many distinct hints are kept; beyond it everything is
// verified, so that no burst can make the set grow.
const maxHints = 512

// Request is what one verification has to look at.
type Request struct {
	// All asks for everything that the environment names. Otherwise the
	// providers of ProviderIDs are looked at.
	All         bool
	ProviderIDs []uuid.UUID
	// Source is what prompted the request, the most far-reaching where several did.
	Source pubsub.Source
}

// Pending gathers requests until a verification takes them: any number of
// notifications that arrive while one runs make one more. It is safe for
// concurrent use.
type Pending struct {
	ready chan struct{} // holds a token while there is something to take

	mu sync.Mutex
	wanted
	// gathering: hints are kept in gathered, where nobody takes them yet.
	gathering bool
	gathered  wanted
}

// wanted is what is to be looked at. It does not grow beyond [maxHints].
type wanted struct {
	all    bool
	hints  map[uuid.UUID]struct{}
	source pubsub.Source
}

// NewPending returns an empty set of requests.
func NewPending() *Pending {
	return &Pending{
		ready:  make(chan struct{}, 1),
		wanted: wanted{hints: make(map[uuid.UUID]struct{})}, gathered: wanted{hints: make(map[uuid.UUID]struct{})},
	}
}

func (w *wanted) empty() bool { return !w.all && len(w.hints) == 0 }

func (w *wanted) hint(id uuid.UUID) {
	w.hints[id] = struct{}{}
	if len(w.hints) > maxHints {
		w.all = true
		clear(w.hints)
	}
}

// Hint adds a notification. A payload that is not a provider's id is no usable
// hint, and asks for everything. It reports whether the notification coalesced
// with requests that were already waiting.
func (p *Pending) Hint(payload string) (coalesced bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to := &p.wanted
	if p.gathering {
		to = &p.gathered
	}
	coalesced = !to.empty()
	if !coalesced {
		to.source = pubsub.SourceNotify
	}
	// Only the form that our triggers send counts; Parse alone takes others.
	if id, err := uuid.Parse(payload); err != nil || len(payload) != len(id.String()) {
		to.all = true
	} else {
		to.hint(id)
	}
	if !p.gathering {
		p.signal()
	}
	return coalesced
}

// Gather keeps the hints that follow from being taken, and with false lets them
// be taken together. It reports whether they join requests that were already
// waiting: the first of them, of which [Pending.Hint] could not tell, has
// coalesced then.
func (p *Pending) Gather(on bool) (joined bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gathering = on
	r, some := p.gathered.take()
	if !some {
		return false
	}
	joined = !p.empty()
	p.put(r)
	return joined
}

// All asks for everything to be verified.
func (p *Pending) All(source pubsub.Source) { p.Again(Request{All: true, Source: source}) }

// Again puts back a request whose verification failed.
func (p *Pending) Again(r Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.put(r)
}

func (p *Pending) put(r Request) {
	if p.empty() || reach(r.Source) > reach(p.source) {
		p.source = r.Source
	}
	p.all = p.all || r.All
	for _, id := range r.ProviderIDs {
		p.hint(id)
	}
	p.signal()
}

func (p *Pending) signal() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// reach ranks sources by what a verification prompted by them does: at a boot or
// a reload it also looks after what the environment no longer names.
func reach(source pubsub.Source) int {
	return slices.Index([]pubsub.Source{
		pubsub.SourceNotify, pubsub.SourceResync, pubsub.SourceBoot, pubsub.SourceReload,
	}, source)
}

// Ready receives when there is something to take.
func (p *Pending) Ready() <-chan struct{} { return p.ready }

// Take removes and returns everything gathered. ok is false when there was
// nothing.
func (p *Pending) Take() (r Request, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.take()
}

func (w *wanted) take() (r Request, ok bool) {
	if w.empty() {
		return Request{}, false
	}
	r = Request{All: w.all, Source: w.source}
	if !w.all {
		r.ProviderIDs = slices.Collect(maps.Keys(w.hints))
	}
	w.all = false
	clear(w.hints)
	return r, true
}
