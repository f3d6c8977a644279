//go:build bench

package bench

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	standbyCounts  = flag.String("standbys", "0,1,2,4,8,16", "Standbys: numbers of standby workers")
	standbyChanges = flag.Int("standby-changes", 100, "Standbys: changes whose alerts are waited for, one after the other")
	standbyIdle    = flag.Duration("standby-idle", 3*time.Second, "Standbys: how long idle workers are looked at")
	standbyBusy    = flag.Duration("standby-busy", 3*time.Second, "Standbys: how long writers write as fast as they can")
)

// BenchmarkStandbys measures what standby workers cost: the server while nothing
// happens, the way to an alert, and writers at full speed.
func BenchmarkStandbys(b *testing.B) {
	ctx := context.Background()
	r := newResult("standbys")
	counts := sizes(b, *standbyCounts)
	sources := []string{"notify", "wal"}
	for _, source := range sources {
		d := newDatabase(b, "standbys_"+source, source)
		arrivals := d.listen("ai_provider_drift")
		workers := []*worker{d.start(source).ready()}
		var conns []*pgx.Conn
		for range *writers {
			conns = append(conns, connect(b, d.name))
		}
		for _, count := range counts {
			for len(workers) < 1+count {
				workers = append(workers, d.start(source).ready())
			}
			// What starting leaves behind is over.
			time.Sleep(500 * time.Millisecond)
			m := standbyMeasurement{r, d, source, count}
			m.idle(workers)
			m.alerts(arrivals)
			m.busy(conns)
			drain(arrivals)
		}
		for _, c := range conns {
			_ = c.Close(ctx)
		}
		for _, w := range slices.Backward(workers) {
			w.end(syscall.SIGTERM)
		}
	}
	r.close(b)

	fmt.Printf("\nStandbys: %d providers, %d changes waited for, %d writers for %s, fsync %s; foreign cores %.2f\n\n",
		*providers, *standbyChanges, *writers, *standbyBusy, *fsync, r.ForeignCores)
	header("source", "standbys", "alert: ms p50", "p99", "idle: server's cores", "workers' cores", "busy: transactions/s", "alerts/s", "server's µs for a transaction", "behind s")
	for _, source := range sources {
		for _, count := range counts {
			of := func(metric, format string) string { return middle(format, r.of(source, count, metric)) }
			took := slices.Sorted(slices.Values(r.of(source, count, "seconds to an alert")))
			row(source, count, fmt.Sprintf("%.1f", quantile(took, 0.5)*1000), fmt.Sprintf("%.1f", quantile(took, 0.99)*1000),
				of("server's cores, idle", "%.3f"), of("workers' cores, idle", "%.3f"), of("transactions per second", "%.0f"),
				of("alerts per second", "%.0f"), of("server's µs for a transaction", "%.0f"), of("seconds behind", "%.2f"))
		}
	}
	fmt.Println()
}

// standbyMeasurement measures the database of a source with a number of standby workers.
type standbyMeasurement struct {
	r      *result
	d      *database
	source string
	count  int
}

// idle measures the processor time while nothing happens.
func (m standbyMeasurement) idle(workers []*worker) {
	before := readUsage()
	time.Sleep(*standbyIdle)
	after := readUsage()
	var pids []int
	for _, w := range workers {
		pids = append(pids, w.command.Process.Pid)
	}
	m.r.add(m.source, m.count, "server's cores, idle", after.cores(before, after.server()...))
	m.r.add(m.source, m.count, "workers' cores, idle", after.cores(before, pids...))
}

// alerts measures the way from a commit to its alert.
func (m standbyMeasurement) alerts(arrivals <-chan arrival) {
	b, ctx := m.d.b, context.Background()
	for i := range *standbyChanges {
		// Alerts are written at most 20 times a second.
		time.Sleep(55*time.Millisecond + rand.N(20*time.Millisecond))
		tx, err := m.d.conn.Begin(ctx)
		if err != nil {
			b.Fatal(err)
		}
		row := i % *providers
		if _, err := tx.Exec(ctx, toggle, m.d.ids[row], providerURL(row), driftedURL(row)); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if err := tx.Commit(ctx); err != nil {
			b.Fatal(err)
		}
		m.r.add(m.source, m.count, "seconds to an alert", await(b, arrivals, m.d.ids[row]).Sub(start).Seconds())
	}
}

// busy measures writers that write as fast as they can.
func (m standbyMeasurement) busy(conns []*pgx.Conn) {
	b := m.d.b
	alerts, _ := (&arm{database: m.d, running: true}).recorded(b)
	before := readUsage()
	written := writeBusily(b, m.d, conns)
	after := readUsage()
	took := after.at.Sub(before.at).Seconds()
	behind := (&arm{database: m.d}).caughtUp(b)
	alertsAfter, _ := (&arm{database: m.d, running: true}).recorded(b)
	m.r.add(m.source, m.count, "transactions per second", float64(written)/took)
	m.r.add(m.source, m.count, "alerts per second", float64(alertsAfter-alerts)/took)
	m.r.add(m.source, m.count, "server's µs for a transaction", after.cores(before, after.server()...)*took*1e6/float64(written))
	m.r.add(m.source, m.count, "seconds behind", behind.Seconds())
}

// writeBusily lets writers write as fast as they can, and returns how many
// transactions they have written.
func writeBusily(b *testing.B, d *database, conns []*pgx.Conn) int64 {
	b.Helper()
	a := &arm{database: d}
	var count atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for _, conn := range conns {
		group.Go(func() {
			for i := 0; time.Since(start) < *standbyBusy; i++ {
				if err := a.write(context.Background(), conn, i); err != nil {
					b.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	group.Wait()
	return count.Load()
}

// server returns the processes of the server.
func (u usage) server() (pids []int) {
	for pid, parent := range u.parent {
		if parent == server.postmaster || pid == server.postmaster {
			pids = append(pids, pid)
		}
	}
	return pids
}
