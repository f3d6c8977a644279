//go:build e2e

package rollout_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/provider"
	"provwatch/internal/rollout"
)

// TestRandomHistories lets workers start, end, reload, lead and be seen at random, some of which
// observe, while time passes. At each step
//
//   - a worker is older while another one with a newer environment is there, and its environment
//     then gets no generation;
//   - a worker that was not older gets the newest generation where no such worker is there;
//   - a worker that was older does so at the latest when it has had answers for a window in
//     which no newer worker was seen;
//   - generations only grow, and no other worker's environment changes its own.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	for n := range uint64(4) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			h := &history{fixture: newFixture(t), random: rand.New(rand.NewPCG(n, 2))}
			for i := range 4 {
				h.environments = append(h.environments, environment(fmt.Sprintf("https://e%d/", i)))
			}
			h.generations = make([]int64, len(h.environments))
			for step := range 400 {
				h.step(step)
			}
		})
	}
}

// history is what has happened, and what of it a worker can see.
type history struct {
	*fixture
	random       *rand.Rand
	environments [][]provider.Desired
	generations  []int64 // of the environments, 0 for none
	elapsed      time.Duration
	workers      []*historical
}

// historical is a worker of a history.
type historical struct {
	*rollout.Member
	environment int
	seenAt      time.Duration // when it was last seen; of an observer never
	announced   int           // the environment that it was seen with, -1 for none
	gone        bool

	wasOlder bool
	answered time.Duration // when it last had an answer
	// steady is since when it has had answers without a gap, and has seen the same newer workers.
	steady time.Duration
	newer  time.Duration // when a newer worker was last seen, as of its last answer
}

func (h *history) step(step int) {
	live := slices.DeleteFunc(slices.Clone(h.workers), func(w *historical) bool { return w.gone })
	did := h.random.IntN(12)
	switch {
	case did < 2 || len(live) == 0:
		role := rollout.Seeds
		if h.random.IntN(4) == 0 {
			role = rollout.Observes
		}
		w := &historical{Member: h.member(role), environment: h.random.IntN(len(h.environments)), announced: -1, seenAt: -1}
		h.workers = append(h.workers, w)
		h.takes(w, fmt.Sprintf("step %d, a start", step))
	case did < 3:
		live[h.random.IntN(len(live))].gone = true
	case did < 4:
		w := live[h.random.IntN(len(live))]
		w.environment = h.random.IntN(len(h.environments))
		h.sees(w, fmt.Sprintf("step %d, a reload", step))
	case did < 6:
		h.takes(live[h.random.IntN(len(live))], fmt.Sprintf("step %d, a leader", step))
	case did < 9:
		for _, w := range live {
			h.sees(w, fmt.Sprintf("step %d, all are seen", step))
		}
	default:
		by := time.Duration(1+h.random.IntN(5)) * window / 8
		h.pass(by)
		h.elapsed += by
	}
}

// lastNewer returns when a worker with a newer environment was last seen, negative for never.
func (h *history) lastNewer(w *historical) time.Duration {
	last := time.Duration(-1)
	own := h.generations[w.environment]
	for _, o := range h.workers {
		if o != w && own > 0 && o.announced >= 0 && h.generations[o.announced] > own {
			last = max(last, o.seenAt)
		}
	}
	return last
}

// isThere reports whether something that was seen then is there now.
func (h *history) isThere(seenAt time.Duration) bool { return seenAt >= 0 && h.elapsed-seenAt < window }

// takes has a worker take a generation.
func (h *history) takes(w *historical, about string) {
	h.t.Helper()
	newer := h.lastNewer(w)
	about = fmt.Sprintf("%s of environment %d at %s, newer %s", about, w.environment, h.elapsed, newer)
	before := h.newest()
	got := h.take(w.Member, h.environments[w.environment])
	h.answered(w, newer, got, about)
	after := h.newest()
	switch {
	case !got, w.Observes():
		require.Equal(h.t, before, after, about)
	case h.generations[w.environment] == before && before > 0:
		require.Equal(h.t, before, after, about)
	default:
		require.Greater(h.t, after, before, about)
		h.generations[w.environment] = after
	}
	if got && !w.Observes() {
		require.True(h.t, h.isNewest(h.environments[w.environment]), about)
	}
}

// sees has a worker be seen.
func (h *history) sees(w *historical, about string) {
	h.t.Helper()
	newer := h.lastNewer(w)
	about = fmt.Sprintf("%s, of environment %d at %s, newer %s", about, w.environment, h.elapsed, newer)
	before := h.newest()
	h.answered(w, newer, h.see(w.Member, h.environments[w.environment]), about)
	require.Equal(h.t, before, h.newest(), about)
}

// answered checks an answer that a worker has had.
func (h *history) answered(w *historical, newer time.Duration, current bool, about string) {
	h.t.Helper()
	if h.elapsed-w.answered > window/2 || newer != w.newer {
		w.steady = h.elapsed
	}
	switch {
	case h.isThere(newer):
		require.False(h.t, current, about)
	case newer < 0, !w.wasOlder:
		require.True(h.t, current, about)
	case h.elapsed-w.steady >= window:
		require.True(h.t, current, about)
	}
	w.wasOlder, w.answered, w.newer = !current, h.elapsed, newer
	if !w.Observes() {
		w.announced, w.seenAt = w.environment, h.elapsed
	}
}
