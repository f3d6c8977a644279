//go:build bench

package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// BenchmarkLatency measures from when a change is sent to the server, its commit
// included, to when its alert has arrived, beside a notification that is sent in
// the same way without provwatch.
func BenchmarkLatency(b *testing.B) {
	type arm struct {
		name     string
		database *database
		arrivals <-chan arrival
		took     []time.Duration
	}
	arms := []*arm{{name: "bare LISTEN/NOTIFY"}, {name: "notify"}, {name: "wal"}}
	for i, a := range arms {
		if i == 0 {
			a.database = newDatabase(b, "latency_bare", "")
			a.arrivals = a.database.listen("bench")
			continue
		}
		a.database = newDatabase(b, "latency_"+a.name, a.name)
		a.arrivals = a.database.listen("ai_provider_drift")
		a.database.start(a.name).ready()
	}
	const warm = 10
	for i := range warm + *alerts {
		for j, a := range arms {
			// The source notify verifies at most 20 times a second.
			time.Sleep(10*time.Millisecond + rand.N(20*time.Millisecond))
			row := i % *providers
			start, text := time.Now(), fmt.Sprintf(`"provider":%q`, providerName(row))
			if j == 0 {
				text = a.database.ids[row]
				execute(b, a.database.conn, `WITH changed AS (`+toggle+` RETURNING id) SELECT pg_notify('bench', id::text) FROM changed`,
					a.database.ids[row], providerURL(row), driftedURL(row))
			} else {
				a.database.toggle(row)
			}
			took := await(b, a.arrivals, text).Sub(start)
			if i >= warm {
				a.took = append(a.took, took)
			}
		}
	}

	fmt.Printf("\nLatency: %d changes for each arm, %d providers; ms\n\n", *alerts, *providers)
	header("arm", "p50", "p90", "p99", "max", "p50 of bare", "p99 of bare")
	for _, a := range arms {
		slices.Sort(a.took)
		of := func(q float64) time.Duration { return quantile(a.took, q) }
		ratio := func(q float64) string { return fmt.Sprintf("%.1f", float64(of(q))/float64(quantile(arms[0].took, q))) }
		row(a.name, milliseconds(of(0.5)), milliseconds(of(0.9)), milliseconds(of(0.99)), milliseconds(of(1)), ratio(0.5), ratio(0.99))
	}
	fmt.Println()
}
