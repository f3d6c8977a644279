package verify

import (
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"provwatch/internal/pubsub"
)

// maxHints is how many distinct hints are kept. Beyond it everything is verified, so that
// no burst makes the queue grow.
const maxHints = 512

// Request is what one verification covers.
type Request struct {
	// All asks for everything that the environment names. Otherwise the verification
	// covers the providers of ProviderIDs.
	All         bool
	ProviderIDs []uuid.UUID
	// Source is what prompted the request, the most far-reaching where several did.
	Source pubsub.Source
	// Events are what has happened before the request was made, of each request that it
	// stands for.
	Events Events
}

// Events are events after which everything must be verified, and of which others learn once
// it was. Several can be combined.
type Events uint8

// The events.
const (
	Reconnected Events = 1 << iota // the listening connection was lost, and is back
	Reloaded                       // the environment was read again
)

// Has reports whether all of the events given are among them.
func (e Events) Has(others Events) bool { return e&others == others }

// Everything returns a request for everything that the environment names.
func Everything(source pubsub.Source) Request { return Request{All: true, Source: source} }

// After adds events that came before the request.
func (r Request) After(events Events) Request {
	r.Events |= events
	return r
}

// Queue holds what must be verified. Any number of notifications that arrive while one
// verification runs make one more.
//
// One request at a time is under way: from a [Queue.Get] that returns it until the
// [Queue.Done] or the [Queue.Retry] that ends it. What is added meanwhile waits.
//
// A Queue is safe for concurrent use.
type Queue struct {
	ready chan struct{} // holds a token while Get may return a request

	// mu guards everything below. Nothing waits while it is held.
	mu       sync.Mutex
	waiting  requestSet
	underWay bool
	// gathering: hints are kept in gathered, where Get does not see them yet.
	gathering bool
	gathered  requestSet
}

// requestSet is a set of requests. It does not grow beyond [maxHints].
type requestSet struct {
	all    bool
	hints  map[uuid.UUID]struct{}
	source pubsub.Source
	events Events
}

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	return &Queue{
		ready:    make(chan struct{}, 1),
		waiting:  requestSet{hints: map[uuid.UUID]struct{}{}},
		gathered: requestSet{hints: map[uuid.UUID]struct{}{}},
	}
}

// Add adds a request to the queue.
func (q *Queue) Add(r Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting.add(r)
	q.signal()
}

// Hint adds a notification. A payload that is not a provider's id asks for everything.
// It reports whether the notification coalesced with requests that were already waiting.
func (q *Queue) Hint(payload string) (coalesced bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	to := &q.waiting
	if q.gathering {
		to = &q.gathered
	}
	r := Request{Source: pubsub.SourceNotify}
	if coalesced = !to.isEmpty(); coalesced {
		r.Source = to.source // a hint reaches no further than what waits
	}
	// Only the form that our triggers send counts; Parse alone takes others.
	if id, err := uuid.Parse(payload); err != nil || len(payload) != len(id.String()) {
		r.All = true
	} else {
		r.ProviderIDs = []uuid.UUID{id}
	}
	to.add(r)
	if !q.gathering {
		q.signal()
	}
	return coalesced
}

// Gather keeps the hints that follow from [Queue.Get], and with false hands them over
// together. It reports whether they joined requests that were already waiting: the first
// of them, of which [Queue.Hint] could not report it, has coalesced then.
func (q *Queue) Gather(on bool) (joined bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gathering = on
	r, ok := q.gathered.take()
	if !ok {
		return false
	}
	joined = !q.waiting.isEmpty()
	q.waiting.add(r)
	q.signal()
	return joined
}

// Ready receives when [Queue.Get] may return a request.
func (q *Queue) Ready() <-chan struct{} { return q.ready }

// Get returns everything that waits as one request, which is under way then. It reports
// false where nothing waits, and while another request is under way.
func (q *Queue) Get() (Request, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.underWay {
		return Request{}, false
	}
	r, ok := q.waiting.take()
	q.underWay = ok
	return r, ok
}

// Done ends the request under way.
func (q *Queue) Done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done()
}

// Retry ends the request under way and adds it again, for a verification that failed or
// did not cover all of it.
func (q *Queue) Retry(r Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting.add(r)
	q.done()
}

func (q *Queue) done() {
	q.underWay = false
	q.signal()
}

// signal makes the queue ready where there is something to get.
func (q *Queue) signal() {
	if q.underWay || q.waiting.isEmpty() {
		return
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (s *requestSet) isEmpty() bool { return !s.all && len(s.hints) == 0 }

// add adds a request. The most far-reaching source stands for all.
func (s *requestSet) add(r Request) {
	if s.isEmpty() || reach(r.Source) > reach(s.source) {
		s.source = r.Source
	}
	s.all = s.all || r.All
	s.events |= r.Events
	for _, id := range r.ProviderIDs {
		s.hints[id] = struct{}{}
		if len(s.hints) > maxHints {
			s.all = true
			clear(s.hints)
		}
	}
}

// take removes and returns everything. It reports false where there is nothing.
func (s *requestSet) take() (r Request, ok bool) {
	if s.isEmpty() {
		return Request{}, false
	}
	r = Request{All: s.all, Source: s.source, Events: s.events}
	if !s.all {
		r.ProviderIDs = slices.Collect(maps.Keys(s.hints))
	}
	s.all, s.events = false, 0
	clear(s.hints)
	return r, true
}

// reach ranks sources by what a verification that they prompt does: at a boot or a reload
// it also covers what the environment no longer names.
func reach(source pubsub.Source) int {
	return slices.Index([]pubsub.Source{
		pubsub.SourceNotify, pubsub.SourceResync, pubsub.SourceBoot, pubsub.SourceReload,
	}, source)
}
