package sink

const (
	// window is how many events are read ahead.
	window = 100
	// maxAhead is how far delivery goes beyond an event that fails. As many events are
	// repeated if the worker is killed then.
	maxAhead = 10_000
)

// pending holds the events of a stream from the first that is not done, in order.
type pending struct {
	items    []*item
	undone   int      // how many of items are not done
	read     position // up to which the stream was read
	complete int64    // seq up to which there is nothing more to read
	pruned   int64    // seq up to which rows were pruned, as far as known
}

// item is an event, or after it is done its seq.
type item struct {
	Event
	done bool
	lost gap // events up to seq that were deleted or pruned before they were read
}

func newPending(cursor int64) *pending {
	return &pending{read: after(cursor), complete: cursor}
}

// room returns how many events to read, 0 for none.
func (p *pending) room() int {
	room := window - p.undone
	if room < window/2 || len(p.items) >= maxAhead {
		return 0
	}
	return room
}

// hasHole reports whether events are missing among the events that were read. The stream has
// no others up to last.
func (p *pending) hasHole(events []Event, last int64) bool {
	expected := p.read.seq + 1
	for _, e := range events {
		if e.Seq > expected {
			return true
		}
		expected = e.Seq + 1
	}
	return last >= expected
}

// add appends events that were read. Seqs that are not among them were deleted or pruned: a
// stream has no gaps by itself. Silenced events are done: the sink does not get them.
func (p *pending) add(events []Event) {
	for _, e := range events {
		p.skip(e.Seq - 1)
		next := &item{Event: e}
		if e.isSilenced() {
			*next = item{Event: Event{Seq: e.Seq}, done: true}
		} else {
			p.undone++
		}
		p.items = append(p.items, next)
		p.read = position{e.Seq, e.ID}
	}
	p.complete = max(p.complete, p.read.seq-1) // there can be others of its seq
}

// end records that the stream has no other events up to last.
func (p *pending) end(last int64) {
	p.skip(last)
	p.complete = p.read.seq
}

// skip takes the events up to seq that were not read for pruned, as far as rows were, and the
// others for deleted.
func (p *pending) skip(seq int64) {
	if seq <= p.read.seq {
		return
	}
	var lost gap
	if p.pruned > p.read.seq {
		lost.pruned = min(seq, p.pruned)
	}
	if deleted := seq - max(p.read.seq, p.pruned); deleted > 0 {
		lost.events, lost.upTo = deleted, seq
	}
	p.items = append(p.items, &item{Event: Event{Seq: seq}, done: true, lost: lost})
	p.read = after(seq)
}

// finish marks an event as done.
func (p *pending) finish(i *item) {
	*i = item{Event: Event{Seq: i.Seq}, done: true}
	p.undone--
}

// pass removes what is done before the first event that is not, and returns the seq up to
// which all is done, with what of it was deleted or pruned.
func (p *pending) pass() (seq int64, lost gap) {
	n := 0
	for n < len(p.items) && p.items[n].done {
		lost = lost.and(p.items[n].lost)
		n++
	}
	p.items = p.items[n:]
	if len(p.items) > 0 {
		return p.items[0].Seq - 1, lost
	}
	return p.complete, lost
}
