//go:build bench

package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// costArm is what writers pay for with one source installed, or none.
type costArm struct {
	arm
	conns      []*pgx.Conn
	throughput []float64 // by round
	writes     int
	used       float64 // processor time of the writers' server processes
}

// BenchmarkCost measures what the writers themselves pay for what provwatch has
// installed, without a worker: arms take turns so short that whatever else keeps
// the machine busy hits all of them.
func BenchmarkCost(b *testing.B) {
	arms := []*costArm{
		{arm: arm{name: "a: no provwatch"}},
		{arm: arm{name: "a2: no provwatch, once more"}},
		{arm: arm{name: "b0: notify, worker stopped", source: "notify"}},
		{arm: arm{name: "c0: wal, worker stopped", source: "wal"}},
	}
	for i, a := range arms {
		a.connect(b, fmt.Sprintf("cost_%d", i))
	}
	for _, a := range arms {
		a.turn(b, false)
		execute(b, a.database.conn, "VACUUM ANALYZE")
	}
	execute(b, arms[0].database.conn, "CHECKPOINT")
	for _, a := range arms {
		a.used = -a.ticks()
	}
	before := readUsage()
	for range *costRounds {
		rand.Shuffle(len(arms), func(i, j int) { arms[i], arms[j] = arms[j], arms[i] })
		for _, a := range arms {
			a.turn(b, true)
		}
	}
	after := readUsage()
	for _, a := range arms {
		a.used += a.ticks()
	}
	slices.SortFunc(arms, func(x, y *costArm) int { return strings.Compare(x.database.name, y.database.name) })

	fmt.Printf("\nCost: %d rounds of %s for each arm, %d writers, %d providers; median [quartiles]; foreign cores %.2f\n\n",
		*costRounds, *turns, *writers, *providers, after.foreign(before))
	header("arm", "transactions/s", "of a, by round", "of a, over all", "server µs/transaction", "of a")
	for _, a := range arms {
		var ratios []float64
		for i, t := range a.throughput {
			ratios = append(ratios, t/arms[0].throughput[i])
		}
		slices.Sort(ratios)
		row(a.name, fmt.Sprintf("%.0f", median(a.throughput)),
			fmt.Sprintf("%.3f [%.3f … %.3f]", median(ratios), quantile(ratios, 0.25), quantile(ratios, 0.75)),
			fmt.Sprintf("%.3f", mean(a.throughput)/mean(arms[0].throughput)),
			fmt.Sprintf("%.0f", a.perWrite()), fmt.Sprintf("%.3f", a.perWrite()/arms[0].perWrite()))
	}
	fmt.Println()
}

// connect connects the writers to a database of their own.
func (a *costArm) connect(b *testing.B, name string) {
	b.Helper()
	a.database = newDatabase(b, name, a.source)
	for range *writers {
		a.conns = append(a.conns, connect(b, a.database.name))
	}
	b.Cleanup(func() {
		for _, conn := range a.conns {
			_ = conn.Close(context.Background())
		}
	})
}

// ticks returns the processor time that the writers' server processes have used.
func (a *costArm) ticks() (sum float64) {
	for _, conn := range a.conns {
		if t, err := readTicks(int(conn.PgConn().PID())); err == nil {
			sum += t.used
		}
	}
	return sum
}

// turn lets all writers write for a turn.
func (a *costArm) turn(b *testing.B, counted bool) {
	b.Helper()
	counts := make([]int, len(a.conns)) // each writer has its own
	var group sync.WaitGroup
	start := time.Now()
	for n, conn := range a.conns {
		group.Go(func() {
			for time.Since(start) < *turns {
				if err := a.write(context.Background(), conn, counts[n]); err != nil {
					b.Error(err)
					return
				}
				counts[n]++
			}
		})
	}
	group.Wait()
	took, sum := time.Since(start), 0
	for _, count := range counts {
		sum += count
	}
	if counted {
		a.throughput = append(a.throughput, float64(sum)/took.Seconds())
		a.writes += sum
	}
}

// perWrite returns the processor time of a transaction in µs.
func (a *costArm) perWrite() float64 { return a.used * 1e4 / float64(a.writes) }

func mean(list []float64) float64 {
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	return sum / float64(len(list))
}
