package listener

import (
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
// notifications that arrive while one runs make one more (spec section 6). It is
// safe for concurrent use.
type Pending struct {
	ready chan struct{} // holds a token while there is something to take

	mu     sync.Mutex
	all    bool
	hints  map[uuid.UUID]struct{}
	source pubsub.Source
}

// NewPending returns an empty set of requests.
func NewPending() *Pending {
	return &Pending{ready: make(chan struct{}, 1), hints: make(map[uuid.UUID]struct{})}
}

// Hint adds a notification. A payload that is not a provider's id is no usable
// hint, and asks for everything. It reports whether the notification coalesced
// with requests that were already waiting.
func (p *Pending) Hint(payload string) (coalesced bool) {
	// Only the form that our triggers send counts; Parse alone takes others.
	id, err := uuid.Parse(payload)
	if err != nil || len(payload) != len(id.String()) {
		return p.add(func() { p.all = true }, pubsub.SourceNotify)
	}
	return p.add(func() { p.hints[id] = struct{}{} }, pubsub.SourceNotify)
}

// All asks for everything to be verified.
func (p *Pending) All(source pubsub.Source) {
	p.add(func() { p.all = true }, source)
}

// Again puts back a request whose verification failed.
func (p *Pending) Again(r Request) {
	p.add(func() {
		p.all = p.all || r.All
		for _, id := range r.ProviderIDs {
			p.hints[id] = struct{}{}
		}
	}, r.Source)
}

func (p *Pending) add(change func(), source pubsub.Source) (coalesced bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	coalesced = p.all || len(p.hints) > 0
	change()
	if len(p.hints) > maxHints {
		p.all = true
		clear(p.hints)
	}
	if !coalesced || reach(source) > reach(p.source) {
		p.source = source
	}
	select {
	case p.ready <- struct{}{}:
	default:
	}
	return coalesced
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
	if !p.all && len(p.hints) == 0 {
		return Request{}, false
	}
	r = Request{All: p.all, Source: p.source}
	if !p.all {
		for id := range p.hints {
			r.ProviderIDs = append(r.ProviderIDs, id)
		}
	}
	p.all = false
	clear(p.hints)
	return r, true
}
