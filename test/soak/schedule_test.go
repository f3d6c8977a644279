package soak

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// op is one thing that a writer does, after a pause.
type op struct {
	pause    time.Duration
	kind     string
	provider string
	other    string // of the same writer
	n        int
	patience time.Duration // after which the writer hangs up on its commit; 0 for never
}

// fault is one thing that the nemesis does, after a pause.
type fault struct {
	pause  time.Duration
	kind   string
	worker int // one of three
	length time.Duration
	n      int
}

// schedule is all that a run does on purpose.
type schedule struct {
	ops     [][]op // by writer
	faults  []fault
	moments []fault         // of the sinks
	asked   []fault         // what an operator asks for
	resyncs []time.Duration // by worker, 0 for the default
	short   bool            // the workers' limits are short, so that faults outlast them
	// alertAfter is how long a drift must last until it is alerted, 0 for no time.
	alertAfter time.Duration
	moves      []fault // of the two sides of the moving provider
	applies    bool    // the workers apply what a reload has changed
}

// weights says how often each is done, relative to one another.
type weights []struct {
	kind   string
	weight int
}

func (w weights) pick(r *rand.Rand) string {
	total := 0
	for _, k := range w {
		total += k.weight
	}
	n := r.IntN(total)
	for _, k := range w {
		if n -= k.weight; n < 0 {
			return k.kind
		}
	}
	panic("unreachable")
}

var opWeights = weights{
	{"url", 14}, {"type", 6}, {"region", 8}, {"several", 6}, {"reverse", 6}, {"rollback", 6},
	{"disable", 12}, {"enable", 12}, {"soft-delete", 8}, {"undelete", 8}, {"delete", 6}, {"insert", 8}, {"restore", 16},
	{"rename", 6}, {"rename-back", 8}, {"rotate", 10}, {"touch", 6}, {"swap", 4}, {"new-id", 2}, {"large-url", 3},
	{"secret-url", 3}, {"flicker", 4}, {"encrypt", 24}, {"damage", 5}, {"bedrock", 3}, {"large", 2}, {"truncate", 1}, {"rogue", 12},
}

var faultWeights = weights{
	{"kill", 5}, {"kill-leader", 6}, {"stop", 4}, {"freeze", 3}, {"freeze-leader", 6}, {"freeze-and-terminate-leader", 4},
	{"restart-server", 5}, {"terminate-all", 4}, {"terminate-some", 5}, {"terminate-walsender", 4}, {"terminate-leader", 5},
	{"cut", 4}, {"silence", 6}, {"silence-leader-and-terminate", 4}, {"half-silence", 5}, {"latency", 4}, {"bandwidth", 3}, {"slicer", 4}, {"cut-inside", 5}, {"reset", 3},
	{"drop-slot", 4}, {"wal", 3}, {"flood", 3}, {"forged", 3}, {"reload", 3}, {"clock", 3}, {"long-transaction", 3},
	{"keys", 8}, {"damage-keys", 2},
	{"freeze-standby", 3}, {"freeze-server", 4}, {"freeze-listener", 4}, {"freeze-walsender", 3}, {"freeze-pool", 4},
	{"switch-over", 2}, {"fail-over", 3}, {"full-disk", 3}, {"connections", 3}, {"server-clock", 4}, {"worker-clock", 4},
}

var momentWeights = weights{
	{"webhook-down", 3}, {"webhook-fails", 3}, {"webhook-slow", 3}, {"webhook-hangs", 3}, {"webhook-breaks-off", 3}, {"webhook-refuses", 2},
	{"nats-restart", 4}, {"nats-silence", 3}, {"nats-down", 3}, {"nats-slow", 2},
}

var operatorWeights = weights{{"operator-silence", 5}, {"operator-silence-all", 2}, {"operator-unsilence", 3}}

var moveWeights = weights{{"operator-moves-environment", 4}, {"operator-moves-row", 2}, {"operator-moves-row-back", 3}}

// plan makes the schedule of a seed: the same for the same seed, source and
// length.
func plan(seed uint64, source string, length time.Duration) schedule {
	stream := uint64(0)
	for _, c := range source {
		stream = stream*131 + uint64(c)
	}
	groups := environment()
	s := schedule{ops: make([][]op, len(groups))}
	for i, group := range groups {
		r := rand.New(rand.NewPCG(seed, stream+uint64(i)+1))
		for at := time.Duration(0); at < length; {
			o := op{kind: opWeights.pick(r), provider: group[r.IntN(len(group))].name, other: group[r.IntN(len(group))].name, n: r.IntN(1000)}
			o.pause = time.Duration(20+r.IntN(380)) * time.Millisecond
			if r.IntN(12) == 0 {
				o.patience = time.Duration(1+r.IntN(1500)) * time.Microsecond
			}
			at += o.pause
			s.ops[i] = append(s.ops[i], o)
		}
	}
	r := rand.New(rand.NewPCG(seed, stream))
	for range 3 {
		s.resyncs = append(s.resyncs, []time.Duration{0, 0, 4 * time.Second}[r.IntN(3)])
	}
	s.short = r.IntN(2) == 0
	for at := time.Duration(0); at < length; {
		f := fault{kind: faultWeights.pick(r), worker: r.IntN(3), n: r.IntN(1000)}
		f.pause = time.Duration(300+r.IntN(2500)) * time.Millisecond
		f.length = time.Duration(300+r.IntN(6000)) * time.Millisecond
		at += f.pause
		s.faults = append(s.faults, f)
	}
	r = rand.New(rand.NewPCG(seed, stream+uint64(len(groups))+1))
	// None shortly before the end, so that sinks need not be waited for then.
	for at := time.Duration(0); at < length-5*time.Second; {
		f := fault{kind: momentWeights.pick(r), n: r.IntN(1000)}
		f.pause = time.Duration(500+r.IntN(2500)) * time.Millisecond
		f.length = time.Duration(300+r.IntN(3000)) * time.Millisecond
		at += f.pause + f.length
		s.moments = append(s.moments, f)
	}
	r = rand.New(rand.NewPCG(seed, stream+uint64(len(groups))+2))
	// With the WAL a drift is of a commit, and the one of a drift that is held back need not be that of its alert.
	if held := r.IntN(2) == 0; held && source == "notify" {
		s.alertAfter = 1500 * time.Millisecond
	}
	for at := time.Duration(0); at < length; {
		f := fault{kind: operatorWeights.pick(r), n: r.IntN(1000)}
		f.pause = time.Duration(500+r.IntN(3000)) * time.Millisecond
		f.length = time.Duration(1+r.IntN(6)) * time.Second
		at += f.pause
		s.asked = append(s.asked, f)
	}
	r = rand.New(rand.NewPCG(seed, stream+uint64(len(groups))+3))
	s.applies = r.IntN(2) == 0
	for at := time.Duration(0); at < length; {
		f := fault{kind: moveWeights.pick(r), n: r.IntN(1000), pause: time.Duration(500+r.IntN(4000)) * time.Millisecond}
		at += f.pause
		s.moves = append(s.moves, f)
	}
	return s
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	t.Run("SameSeed", testScheduleSameSeed)
	t.Run("TenMinutes", testScheduleTenMinutes)
}

func testScheduleSameSeed(t *testing.T) {
	t.Parallel()
	first := plan(7, "wal", time.Minute)
	require.Equal(t, first, plan(7, "wal", time.Minute))
	require.NotEqual(t, first, plan(8, "wal", time.Minute))
	require.NotEqual(t, first, plan(7, "notify", time.Minute))
}

func testScheduleTenMinutes(t *testing.T) {
	t.Parallel()
	s := plan(1, "wal", 10*time.Minute)
	faults, ops := map[string]int{}, map[string]int{}
	for _, f := range s.faults {
		faults[f.kind]++
	}
	for _, list := range s.ops {
		for _, o := range list {
			ops[o.kind]++
		}
	}
	require.Len(t, faults, len(faultWeights))
	require.Len(t, ops, len(opWeights))
	moments := map[string]int{}
	for _, f := range s.moments {
		moments[f.kind]++
	}
	require.Len(t, moments, len(momentWeights))
	asked := map[string]int{}
	for _, f := range s.asked {
		asked[f.kind]++
	}
	for _, f := range s.moves {
		asked[f.kind]++
	}
	require.Len(t, asked, len(operatorWeights)+len(moveWeights))
}
