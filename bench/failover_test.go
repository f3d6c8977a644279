//go:build bench

package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkFailover measures how long it takes from the end of the leader to the
// alert, published by the other worker, of a change made right after that end.
func BenchmarkFailover(b *testing.B) {
	type way struct {
		source string
		signal syscall.Signal
		name   string
		// From the signal to the alert, to the process's end, and from the change
		// to the alert.
		total, ending, waited []time.Duration
	}
	var ways []*way
	type pair struct {
		database        *database
		leader, standby *worker
		alerts          <-chan arrival
	}
	pairs := map[string]*pair{}
	for _, source := range []string{"notify", "wal"} {
		p := &pair{database: newDatabase(b, "failover_"+source, source)}
		p.alerts = p.database.listen("ai_provider_drift")
		p.leader = p.database.start(source).ready()
		p.standby = p.database.start(source).ready()
		if !p.leader.logged("msg=leading") || p.standby.logged("msg=leading") {
			b.Fatal("it is not the worker that was started first that leads")
		}
		pairs[source] = p
		ways = append(ways, &way{source: source, signal: syscall.SIGKILL, name: "kill -9"}, &way{source: source, signal: syscall.SIGTERM, name: "SIGTERM"})
	}
	for i := range *failovers {
		for _, w := range ways {
			p := pairs[w.source]
			// Anywhere in the interval at which a standby tries to lead.
			time.Sleep(300*time.Millisecond + rand.N(300*time.Millisecond))
			row := i % *providers
			start := time.Now()
			p.leader.end(w.signal)
			ended := time.Now()
			p.database.toggle(row)
			alerted := await(b, p.alerts, fmt.Sprintf(`"provider":%q`, providerName(row)))
			p.standby.waitFor("msg=leading")
			w.total = append(w.total, alerted.Sub(start))
			w.ending = append(w.ending, ended.Sub(start))
			w.waited = append(w.waited, alerted.Sub(ended))
			p.leader, p.standby = p.standby, p.database.start(w.source).ready()
		}
	}

	fmt.Printf("\nFailover: %d repetitions, %d providers; ms\n\n", *failovers, *providers)
	header("source", "leader's end", "signal to alert p50", "p95", "max", "change to alert p50", "p95", "max", "signal to exit p50", "max")
	for _, w := range ways {
		for _, list := range [][]time.Duration{w.total, w.ending, w.waited} {
			slices.Sort(list)
		}
		of := func(list []time.Duration, q float64) string { return milliseconds(quantile(list, q)) }
		row(w.source, w.name, of(w.total, 0.5), of(w.total, 0.95), of(w.total, 1),
			of(w.waited, 0.5), of(w.waited, 0.95), of(w.waited, 1), of(w.ending, 0.5), of(w.ending, 1))
	}
	fmt.Println()
}
