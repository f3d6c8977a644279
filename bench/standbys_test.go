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
			before := readUsage()
			time.Sleep(*standbyIdle)
			after := readUsage()
			var pids []int
			for _, w := range workers {
				pids = append(pids, w.command.Process.Pid)
			}
			r.add(source, count, "server's cores, idle", after.cores(before, after.server()...))
			r.add(source, count, "workers' cores, idle", after.cores(before, pids...))

			for i := range *standbyChanges {
				// Alerts are written at most 20 times a second.
				time.Sleep(55*time.Millisecond + rand.N(20*time.Millisecond))
				tx, err := d.conn.Begin(ctx)
				if err != nil {
					b.Fatal(err)
				}
				row := i % *providers
				if _, err := tx.Exec(ctx, toggle, d.ids[row], providerURL(row), driftedURL(row)); err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				if err := tx.Commit(ctx); err != nil {
					b.Fatal(err)
				}
				r.add(source, count, "seconds to an alert", await(b, arrivals, d.ids[row]).Sub(start).Seconds())
			}

			alerts, _ := (&arm{database: d, running: true}).recorded(b)
			before = readUsage()
			written := writeBusily(b, d, conns)
			after = readUsage()
			took := after.at.Sub(before.at).Seconds()
			behind := (&arm{database: d}).caughtUp(b)
			alertsAfter, _ := (&arm{database: d, running: true}).recorded(b)
			r.add(source, count, "transactions per second", float64(written)/took)
			r.add(source, count, "alerts per second", float64(alertsAfter-alerts)/took)
			r.add(source, count, "server's µs for a transaction", after.cores(before, after.server()...)*took*1e6/float64(written))
			r.add(source, count, "seconds behind", behind.Seconds())
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
