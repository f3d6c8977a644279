//go:build bench

package bench

import (
	"iter"
	"testing"
	"time"
)

// timedArm is an arm of a benchmark, and what it does in its turn.
type timedArm struct {
	name string
	do   func() error
}

// inTurn yields each round with the index of each arm. Every round begins with another
// arm. Round -1 does not count.
func inTurn(rounds, arms int) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		for round := -1; round < rounds; round++ {
			for i := range arms {
				if !yield(round, (max(0, round)+i)%arms) {
					return
				}
			}
		}
	}
}

// time adds how long each arm takes in each round that counts.
func (r *result) time(b *testing.B, n, rounds int, arms []timedArm) {
	b.Helper()
	for round, i := range inTurn(rounds, len(arms)) {
		start := time.Now()
		if err := arms[i].do(); err != nil {
			b.Fatal(err)
		}
		if round >= 0 {
			r.add(arms[i].name, n, "seconds", time.Since(start).Seconds())
		}
	}
}

// milliseconds returns what was added in seconds, in milliseconds.
func (r *result) milliseconds(arm string, n int) (list []float64) {
	for _, v := range r.of(arm, n, "seconds") {
		list = append(list, v*1000)
	}
	return list
}
