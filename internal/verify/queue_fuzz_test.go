package verify

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// FuzzHint sends notifications as any role can, one payload a line, while verifications
// get what waits and retry what failed. All that was asked for is verified, at once or
// after it was gathered, for the most far-reaching reason. The queue keeps only a bounded
// number of ids.
//
// The lines "look", "done" and "failed" stand for a verification and its end, "gather" and
// "handed on" for the beginning and the end of notifications that belong together, "burst
// N" for notifications of 300 ids, and the name of a source for a request of its own.
func FuzzHint(f *testing.F) {
	id := uuid.UUID{1}.String()
	for _, input := range []string{
		"", id, strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, "urn:uuid:0", strings.ReplaceAll(id, "-", ""), id + "\n" + id + "\nlook\n" + id,
		"burst 1\nlook\nburst 2\nfailed\nlook\nburst 3\nfailed", "burst 1\nburst 2\n" + id, id + "\nx\nlook\nfailed\n" + id + "\nlook\nlook",
		`{"v":1,"id":"` + id + `"}`, "\x00", strings.Repeat("x", 7999), strings.Repeat("-", 36), "00000000-0000-0000-0000-00000000000g",
		id + "\ngather\nburst 1\nlook\nburst 2\nhanded on\nlook", "gather\nx\ngather\n" + id + "\nhanded on\nhanded on\nlook\nfailed",
		"resync\nlook\nreload\nfailed\nboot\nlook\n" + id + "\nresync", "gather\n" + id + "\nreload\nlook\nhanded on\nresync",
	} {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input string) {
		m := queueModel{T: t, queue: NewQueue(), asked: newAsked(), gathered: newAsked()}
		for line := range strings.SplitSeq(input, "\n") {
			m.do(line)
		}
		m.gather(false)
		m.finish(true)
		m.get()
		m.finish(false)
		_, ok := m.queue.Get()
		require.False(t, ok)
	})
}

// fuzzedSources are the sources of requests, from the least to the most far-reaching.
var fuzzedSources = []pubsub.Source{pubsub.SourceNotify, pubsub.SourceResync, pubsub.SourceBoot, pubsub.SourceReload}

// asked is what a model expects to be verified, without a bound on its size.
type asked struct {
	all bool // something was no provider's id
	ids map[string]bool
}

func newAsked() asked { return asked{ids: map[string]bool{}} }

func (a asked) isEmpty() bool { return !a.all && len(a.ids) == 0 }

func (a *asked) add(other asked) {
	a.all = a.all || other.all
	maps.Copy(a.ids, other.ids)
}

// queueModel keeps everything that was asked of a queue, and compares the queue with it.
type queueModel struct {
	*testing.T
	queue *Queue

	asked, gathered asked
	gathering       bool
	source          pubsub.Source // of what is asked for

	request  *Request // under way, nil for none
	underWay asked    // what it was asked for
}

// do does what a line stands for.
func (m *queueModel) do(line string) {
	number, isBurst := strings.CutPrefix(line, "burst ")
	n, err := strconv.ParseUint(number, 10, 16)
	switch {
	case line == "look" && m.request == nil:
		m.get()
	case line == "done" || line == "failed":
		m.finish(line == "failed")
	case line == "gather" || line == "handed on":
		m.gather(line == "gather")
	case slices.Contains(fuzzedSources[1:], pubsub.Source(line)):
		m.queue.Add(Everything(pubsub.Source(line)))
		m.prompted(pubsub.Source(line))
		m.asked.all = true
	case isBurst && err == nil:
		for i := range byte(150) {
			m.hint(uuid.UUID{byte(n), byte(n >> 8), i, 1}.String())
			m.hint(uuid.UUID{byte(n), byte(n >> 8), i, 2}.String())
		}
	default:
		m.hint(line)
	}
}

// prompted keeps the most far-reaching source.
func (m *queueModel) prompted(by pubsub.Source) {
	if m.asked.isEmpty() || slices.Index(fuzzedSources, by) > slices.Index(fuzzedSources, m.source) {
		m.source = by
	}
}

// requireReady requires that a verification is asked for, unless one is under way.
func (m *queueModel) requireReady() {
	if m.request == nil {
		require.Len(m, m.queue.ready, 1, "a verification is asked for")
	}
}

func (m *queueModel) gather(on bool) {
	some := !m.gathered.isEmpty()
	require.Equal(m, some && !m.asked.isEmpty(), m.queue.Gather(on))
	if some {
		m.prompted(pubsub.SourceNotify)
		m.asked.add(m.gathered)
		m.requireReady()
	}
	m.gathered, m.gathering = newAsked(), on
}

func (m *queueModel) get() {
	r, ok := m.queue.Get()
	require.Equal(m, !m.asked.isEmpty(), ok)
	if !ok {
		return
	}
	m.request = &r
	require.Equal(m, m.source, r.Source)
	require.LessOrEqual(m, len(r.ProviderIDs), maxHints)
	if r.All {
		require.Empty(m, r.ProviderIDs)
		// Either it was asked for, or more than what is kept was.
		require.True(m, m.asked.all || len(m.asked.ids) > maxHints)
	} else {
		require.False(m, m.asked.all)
		require.Len(m, r.ProviderIDs, len(m.asked.ids))
		for _, id := range r.ProviderIDs {
			require.True(m, m.asked.ids[id.String()])
		}
	}
	m.underWay = asked{r.All, m.asked.ids}
	m.asked = newAsked()
	_, another := m.queue.Get()
	require.False(m, another, "one request is under way")
}

func (m *queueModel) finish(failed bool) {
	switch {
	case m.request == nil:
		return
	case failed:
		m.queue.Retry(*m.request)
		require.LessOrEqual(m, len(m.queue.waiting.hints), maxHints)
		m.prompted(m.request.Source)
		m.asked.add(m.underWay)
	default:
		m.queue.Done()
	}
	m.request = nil
	if !m.asked.isEmpty() {
		m.requireReady()
	}
}

func (m *queueModel) hint(payload string) {
	one := newAsked()
	if _, err := uuid.Parse(payload); err == nil && len(payload) == 36 {
		one.ids[strings.ToLower(payload)] = true
	} else {
		one.all = true
	}
	if m.gathering {
		ready := len(m.queue.ready)
		require.Equal(m, !m.gathered.isEmpty(), m.queue.Hint(payload))
		require.Len(m, m.queue.ready, ready, "nothing is handed over yet")
		require.LessOrEqual(m, len(m.queue.gathered.hints), maxHints)
		m.gathered.add(one)
		return
	}
	require.Equal(m, !m.asked.isEmpty(), m.queue.Hint(payload))
	m.prompted(pubsub.SourceNotify)
	m.asked.add(one)
	require.LessOrEqual(m, len(m.queue.waiting.hints), maxHints)
	m.requireReady()
}
