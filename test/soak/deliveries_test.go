package soak

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// arrival is one time that a sink was sent an event, as the sink saw it.
type arrival struct {
	stream, id, provider string
	what                 string // kind of the alert, or action of the entry
	seq                  int64
	// received and answered count what happened at the sink, in order; answered is 0
	// for an event that it neither acknowledged nor refused.
	received, answered int
	refused            bool
}

// delivery is all that a sink was sent, and what the worker says of it.
type delivery struct {
	sink     string
	arrivals []arrival
	letters  []string // ids of the dead letters
	once     bool     // whether it drops repeats by itself
}

// streamed is an event as it was committed.
type streamed struct {
	id, provider, what string
	seq                int64
}

// committed returns the events of each stream that are for sinks, in order.
func (c *checker) committed() map[string][]streamed {
	events := map[string][]streamed{"drift": nil, "audit": nil}
	for _, a := range c.alerts {
		if a.silenced {
			continue
		}
		events["drift"] = append(events["drift"], streamed{a.id, a.provider, a.kind, a.seq})
	}
	for _, e := range c.delivered {
		events["audit"] = append(events["audit"], streamed{e.id, e.provider, e.action, e.seq})
	}
	return events
}

// checkDelivery holds what a sink was sent against what was committed: each event
// arrived, or was refused and is a dead letter; none came before the one before it
// of its provider was settled; and nothing else came, silenced alerts least of all.
func (c *checker) checkDelivery(d delivery) (found []violation) {
	for _, a := range d.arrivals {
		if c.isSilenced(a) {
			found = append(found, violation{Rule: ruleSinkSilent, Provider: a.provider, Detail: fmt.Sprintf("%s: alert %d, %s", d.sink, a.seq, a.what)})
		}
	}
	d.arrivals = slices.DeleteFunc(slices.Clone(d.arrivals), c.isSilenced)
	for stream, events := range c.committed() {
		s := d.of(stream)
		s.checkArrivals(events)
		s.checkEvents(events)
		found = append(found, s.found...)
	}
	return found
}

// isSilenced reports whether an arrival is of an alert that is silenced.
func (c *checker) isSilenced(a arrival) bool {
	return a.stream == "drift" && slices.ContainsFunc(c.alerts, func(b alert) bool { return b.id == a.id && b.silenced })
}

// sentStream is what a sink was sent of one stream, by the id of the event.
type sentStream struct {
	delivery
	stream  string
	settled map[string]int // when it was first answered
	taken   map[string]int // how many times
	refused map[string]bool
	found   []violation
}

func (d delivery) of(stream string) *sentStream {
	s := &sentStream{delivery: d, stream: stream, settled: map[string]int{}, taken: map[string]int{}, refused: map[string]bool{}}
	for _, a := range d.arrivals {
		if a.stream != stream || a.answered == 0 {
			continue
		}
		if at, ok := s.settled[a.id]; !ok || a.answered < at {
			s.settled[a.id] = a.answered
		}
		if a.refused {
			s.refused[a.id] = true
		} else {
			s.taken[a.id]++
		}
	}
	return s
}

func (s *sentStream) find(rule, provider, format string, args ...any) {
	s.found = append(s.found, violation{Rule: rule, Provider: provider, Detail: s.sink + ": " + fmt.Sprintf(format, args...)})
}

// checkArrivals checks that each arrival is of an event, and came once the one before it
// of its provider was settled.
func (s *sentStream) checkArrivals(events []streamed) {
	known, before, last := map[string]streamed{}, map[string]string{}, map[string]string{}
	for _, e := range events {
		known[e.id] = e
		before[e.id], last[e.provider] = last[e.provider], e.id
	}
	for _, a := range s.arrivals {
		if a.stream != s.stream {
			continue
		}
		e, ok := known[a.id]
		if !ok || e != (streamed{a.id, a.provider, a.what, a.seq}) {
			s.find(ruleSinkPhantom, a.provider, "%s %d, %s, id %s, is not what was committed: %v", s.stream, a.seq, a.what, a.id, e)
			continue
		}
		if previous := before[a.id]; previous != "" && (s.settled[previous] == 0 || s.settled[previous] > a.received) {
			s.find(ruleSinkOrder, a.provider, "%s %d came before the one before it, %d, was settled", s.stream, a.seq, known[previous].seq)
		}
	}
}

// checkEvents checks that each event arrived, or was refused and is a dead letter.
func (s *sentStream) checkEvents(events []streamed) {
	for _, e := range events {
		dead := slices.Contains(s.letters, e.id)
		switch {
		case s.taken[e.id] == 0 && !dead:
			s.find(ruleSinkLost, e.provider, "%s %d, %s, did not arrive and is no dead letter", s.stream, e.seq, e.what)
		case dead && !s.refused[e.id]:
			s.find(ruleSinkLetter, e.provider, "%s %d is a dead letter and was not refused", s.stream, e.seq)
		case s.once && s.taken[e.id] > 1:
			s.find(ruleSinkDoubled, e.provider, "%s %d is there %d times", s.stream, e.seq, s.taken[e.id])
		}
	}
}

func TestCheckDeliveries(t *testing.T) {
	t.Parallel()
	c := newChecker(environment())
	for i, provider := range []string{"alpha", "beta", "alpha"} {
		c.alerts = append(c.alerts, alert{seq: int64(i + 1), id: fmt.Sprint("a", i+1), kind: missing, provider: provider})
	}
	c.delivered = []entry{{id: "e1", action: "provider.create", provider: "alpha", seq: 4}}
	// came is an arrival of alert 1, 2 or 3, or of the entry, 4, that is taken at once.
	came := func(seq int64, at int) arrival {
		if seq == 4 {
			return arrival{"audit", "e1", "alpha", "provider.create", 4, at, at + 1, false}
		}
		a := c.alerts[seq-1]
		return arrival{"drift", a.id, a.provider, a.kind, seq, at, at + 1, false}
	}
	changed := func(a arrival, change func(*arrival)) arrival {
		change(&a)
		return a
	}
	open := func(a *arrival) { a.answered = 0 }
	refuse := func(a *arrival) { a.refused = true }
	silent := *c
	silent.alerts = slices.Clone(c.alerts)
	silent.alerts[0].silenced = true
	require.Equal(t, []string{ruleSinkSilent}, rulesOf(silent.checkDelivery(delivery{arrivals: []arrival{came(1, 1), came(2, 3), came(3, 5), came(4, 7)}})))
	require.Empty(t, silent.checkDelivery(delivery{arrivals: []arrival{came(2, 3), came(3, 5), came(4, 7)}}), "what comes after a silenced one waits for nothing")
	for name, test := range map[string]struct {
		delivery
		want []string
	}{
		"all of it":     {delivery{arrivals: []arrival{came(4, 1), came(1, 3), came(3, 5), came(2, 7)}}, nil},
		"repeats":       {delivery{arrivals: []arrival{changed(came(1, 1), open), came(1, 2), came(4, 4), came(2, 5), came(3, 7), came(1, 9)}}, nil},
		"a dead letter": {delivery{arrivals: []arrival{changed(came(1, 1), refuse), came(3, 3), came(2, 5), came(4, 7)}, letters: []string{"a1"}}, nil},
		"a lost alert":  {delivery{arrivals: []arrival{came(1, 1), came(3, 3), came(4, 5)}}, []string{ruleSinkLost}},
		"a lost entry":  {delivery{arrivals: []arrival{came(1, 1), came(2, 3), came(3, 5)}}, []string{ruleSinkLost}},
		"one that was not acknowledged": {
			delivery{arrivals: []arrival{came(1, 1), changed(came(2, 3), open), came(3, 5), came(4, 7)}}, []string{ruleSinkLost},
		},
		"one that was refused and forgotten": {
			delivery{arrivals: []arrival{came(1, 1), changed(came(2, 3), refuse), came(3, 5), came(4, 7)}}, []string{ruleSinkLost},
		},
		"a dead letter that nobody refused": {
			delivery{arrivals: []arrival{came(1, 1), came(3, 3), came(4, 5)}, letters: []string{"a2"}}, []string{ruleSinkLetter},
		},
		"a later one first": {
			delivery{arrivals: []arrival{came(3, 1), came(1, 3), came(2, 5), came(4, 7)}}, []string{ruleSinkOrder},
		},
		"a later one while the one before is under way": {
			delivery{arrivals: []arrival{changed(came(1, 1), func(a *arrival) { a.answered = 9 }), came(3, 3), came(2, 5), came(4, 7)}}, []string{ruleSinkOrder},
		},
		"one that was never committed": {
			delivery{arrivals: []arrival{came(1, 1), came(2, 3), came(3, 5), came(4, 7), {"drift", "x", "alpha", missing, 4, 9, 10, false}}}, []string{ruleSinkPhantom},
		},
		"one with another kind": {
			delivery{arrivals: []arrival{came(1, 1), changed(came(2, 3), func(a *arrival) { a.what = deleted }), came(3, 5), came(4, 7)}}, []string{ruleSinkPhantom},
		},
		"one twice where repeats are dropped": {
			delivery{arrivals: []arrival{came(1, 1), came(2, 3), came(3, 5), came(4, 7), came(2, 9)}, once: true}, []string{ruleSinkDoubled},
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, rulesOf(c.checkDelivery(test.delivery)))
		})
	}
}
