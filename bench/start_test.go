//go:build bench

package bench

import (
	"flag"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"provwatch/internal/schema"
)

var (
	startSizes  = flag.String("start-sizes", "10,1000", "Start: numbers of providers")
	startRounds = flag.Int("start-rounds", 30, "Start: rounds")
)

// BenchmarkStart measures from the start of a process until the worker is ready,
// on a database that was seeded before, beside a process that only connects.
func BenchmarkStart(b *testing.B) {
	r := newResult("start")
	type start struct {
		arm string
		n   int
		do  func() time.Duration
	}
	var starts []start
	for _, n := range sizes(b, *startSizes) {
		for _, source := range []string{"notify", "wal"} {
			d := emptyDatabase(b, fmt.Sprintf("start_%s_%d", source, n))
			d.migrate(schema.Needs{Triggers: source == "notify", Publication: source == "wal"})
			d.fill(desiredProviders(b, n), false)
			starts = append(starts, start{source, n, func() time.Duration {
				began := time.Now()
				w := d.launch(nil, "--source="+source, "--env-file="+environmentFile(b, n)).ready()
				took := w.at("msg=ready").Sub(began)
				w.end(syscall.SIGTERM)
				return took
			}})
			if source == "notify" {
				starts = append(starts, start{"connect", n, func() time.Duration {
					began := time.Now()
					p := d.peer(roleConnect)
					took := time.Duration(p.expect("ready")[0] - began.UnixNano())
					p.end()
					return took
				}})
			}
		}
	}
	for round := -1; round < *startRounds; round++ {
		for i := range starts {
			s := starts[(max(0, round)+i)%len(starts)]
			if took := s.do(); round >= 0 {
				r.add(s.arm, s.n, "seconds", took.Seconds())
			}
		}
	}
	r.close(b)

	fmt.Printf("\nStart: %d rounds, fsync %s; ms; foreign cores %.2f\n\n", *startRounds, *fsync, r.ForeignCores)
	header("providers", "arm", "until ready: median [quartiles]", "p90", "beyond connecting, by round")
	for _, s := range starts {
		var ms, beyond []float64
		for i, v := range r.of(s.arm, s.n, "seconds") {
			ms = append(ms, v*1000)
			beyond = append(beyond, (v-r.of("connect", s.n, "seconds")[i])*1000)
		}
		row(s.n, s.arm, middle("%.1f", ms), fmt.Sprintf("%.1f", quantile(slices.Sorted(slices.Values(ms)), 0.9)), middle("%.1f", beyond))
	}
	fmt.Println()
}
