//go:build bench

package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// warmUp is the beginning of a slice, which does not count.
const warmUp = 300 * time.Millisecond

// arm is one way to have provwatch or not, on a database of its own.
type arm struct {
	name, source string // source "" for no provwatch
	running      bool   // a worker runs during the slice
	database     *database

	throughput, foreign         []float64
	perWrite                    []float64 // microseconds of the writers' server processes for each transaction
	alerts, recordings          []float64 // a second; recordings are the worker's transactions that write alerts
	worker, walsender, sessions []float64 // processors used
	latencies                   []time.Duration
	catchUp                     []time.Duration
	repeated                    int // slices that did not count
}

// BenchmarkWriters measures what concurrent writers achieve without provwatch
// and with it, in slices that take turns.
func BenchmarkWriters(b *testing.B) {
	arms := []*arm{
		{name: "a: no provwatch"},
		{name: "a2: no provwatch, once more"}, // what differs from a is chance
		{name: "b: notify", source: "notify", running: true},
		{name: "b0: notify, worker stopped", source: "notify"},
		{name: "c: wal", source: "wal", running: true},
		{name: "c0: wal, worker stopped", source: "wal"},
	}
	arms = slices.DeleteFunc(arms, func(a *arm) bool {
		name, _, _ := strings.Cut(a.name, ":")
		return name != "a" && !slices.Contains(strings.Split(*which, ","), name)
	})
	for i, a := range arms {
		a.database = newDatabase(b, fmt.Sprintf("writers_%d", i), a.source)
	}
	for i := range *rounds {
		// Each arm begins in its turn, so that none always follows the same.
		for j := range arms {
			arms[(i+j)%len(arms)].calmSlice(b)
		}
	}

	fmt.Printf("\nWriters: %d rounds of %s, %d writers, pace %v, %d providers; median [min … max]\n\n", *rounds, *slice, *writers, *pace, *providers)
	header("arm", "transactions/s", "of a", "calm rounds", "p50 ms", "p99 ms", "server µs/transaction", "of a",
		"worker cores", "walsender cores", "its sessions' cores", "alerts/s", "recordings/s", "caught up after ms", "foreign cores", "repeated")
	for _, a := range arms {
		// Only of rounds in which both slices were calm.
		var ratios, perWriteRatios []float64
		for i, t := range a.throughput {
			if max(a.foreign[i], arms[0].foreign[i]) <= *calm {
				ratios = append(ratios, t/arms[0].throughput[i])
				perWriteRatios = append(perWriteRatios, a.perWrite[i]/arms[0].perWrite[i])
			}
		}
		ofA, perWriteOfA := "–", "–"
		if len(ratios) > 0 {
			ofA, perWriteOfA = spread("%.3f", ratios), spread("%.3f", perWriteRatios)
		}
		caughtUp := "–"
		if len(a.catchUp) > 0 {
			slices.Sort(a.catchUp)
			caughtUp = milliseconds(quantile(a.catchUp, 0.5))
		}
		slices.Sort(a.latencies)
		row(a.name, spread("%.0f", a.throughput), ofA, len(ratios),
			milliseconds(quantile(a.latencies, 0.5)), milliseconds(quantile(a.latencies, 0.99)),
			spread("%.0f", a.perWrite), perWriteOfA,
			fmt.Sprintf("%.2f", median(a.worker)), fmt.Sprintf("%.2f", median(a.walsender)), fmt.Sprintf("%.2f", median(a.sessions)),
			fmt.Sprintf("%.0f", median(a.alerts)), fmt.Sprintf("%.0f", median(a.recordings)), caughtUp, spread("%.2f", a.foreign), a.repeated)
	}
	fmt.Println()
}

func spread(format string, list []float64) string {
	return fmt.Sprintf(format+" ["+format+" … "+format+"]", median(list), slices.Min(list), slices.Max(list))
}

// calmSlice waits until others leave the machine alone, and repeats a slice that
// they disturbed, as long as the run may wait. Of several it keeps the calmest:
// which one that is does not depend on what it measured.
func (a *arm) calmSlice(b *testing.B) {
	var best *arm
	for {
		start := time.Now()
		for before := readUsage(); *waiting > time.Since(start); {
			time.Sleep(300 * time.Millisecond)
			after := readUsage()
			if after.foreign(before) <= *calm {
				break
			}
			before = after
		}
		one := &arm{name: a.name, source: a.source, running: a.running, database: a.database}
		one.slice(b)
		if best == nil || one.foreign[0] < best.foreign[0] {
			best = one
		}
		*waiting -= time.Since(start)
		if best.foreign[0] <= *calm || *waiting <= 0 {
			break
		}
		a.repeated++
	}
	a.throughput = append(a.throughput, best.throughput...)
	a.foreign = append(a.foreign, best.foreign...)
	a.perWrite = append(a.perWrite, best.perWrite...)
	a.alerts = append(a.alerts, best.alerts...)
	a.recordings = append(a.recordings, best.recordings...)
	a.worker = append(a.worker, best.worker...)
	a.walsender = append(a.walsender, best.walsender...)
	a.sessions = append(a.sessions, best.sessions...)
	a.latencies = append(a.latencies, best.latencies...)
	a.catchUp = append(a.catchUp, best.catchUp...)
}

// slice runs the writers once.
func (a *arm) slice(b *testing.B) {
	execute(b, a.database.conn, "VACUUM ANALYZE")
	var w *worker
	if a.running {
		w = a.database.start(a.source).ready()
	}
	execute(b, a.database.conn, "CHECKPOINT")

	ctx := context.Background()
	var counting, stop atomic.Bool
	var group sync.WaitGroup
	done := make([][]time.Duration, *writers)
	var backends []int
	for n := range *writers {
		conn := connect(b, a.database.name)
		backends = append(backends, int(conn.PgConn().PID()))
		group.Go(func() {
			defer conn.Close(ctx)
			next := time.Now()
			for i := 0; !stop.Load(); i++ {
				if *pace > 0 {
					// Exponential pauses: arrivals do not depend on one another.
					next = next.Add(time.Duration(rand.ExpFloat64() * float64(*writers) / *pace * float64(time.Second)))
					time.Sleep(time.Until(next))
				}
				start := time.Now()
				if err := a.write(ctx, conn, i); err != nil {
					b.Error(err)
					return
				}
				if counting.Load() {
					done[n] = append(done[n], time.Since(start))
				}
			}
		})
	}
	time.Sleep(warmUp)
	pids := a.pids(b)
	alertsBefore, recordingsBefore := a.recorded(b)
	before := readUsage()
	counting.Store(true)
	time.Sleep(*slice)
	counting.Store(false)
	after := readUsage()
	alerts, recordings := a.recorded(b)
	stop.Store(true)
	group.Wait()

	count := 0
	for _, latencies := range done {
		count += len(latencies)
		a.latencies = append(a.latencies, latencies...)
	}
	took := after.at.Sub(before.at).Seconds()
	a.throughput = append(a.throughput, float64(count)/took)
	a.perWrite = append(a.perWrite, after.cores(before, backends...)*took*1e6/float64(count))
	a.alerts = append(a.alerts, float64(alerts-alertsBefore)/took)
	a.recordings = append(a.recordings, float64(recordings-recordingsBefore)/took)
	a.foreign = append(a.foreign, after.foreign(before))
	worker := 0.0
	if w != nil {
		worker = after.cores(before, w.command.Process.Pid)
		a.catchUp = append(a.catchUp, a.caughtUp(b))
		w.end(syscall.SIGTERM)
	}
	a.worker = append(a.worker, worker)
	a.walsender = append(a.walsender, after.cores(before, pids["walsender"]...))
	a.sessions = append(a.sessions, after.cores(before, pids["client backend"]...))
}

// write is one transaction. One of ten changes what provwatch watches.
func (a *arm) write(ctx context.Context, conn *pgx.Conn, i int) error {
	row := rand.IntN(*providers)
	var err error
	if rand.IntN(10) == 0 {
		_, err = conn.Exec(ctx, toggle, a.database.ids[row], providerURL(row), driftedURL(row))
	} else {
		_, err = conn.Exec(ctx, `UPDATE ai_providers SET display_name = $2, updated_at = now() WHERE id = $1`,
			a.database.ids[row], fmt.Sprintf("Provider %d", i))
	}
	return err
}

// pids returns the server processes of the worker, by type.
func (a *arm) pids(b *testing.B) map[string][]int {
	rows, err := a.database.conn.Query(context.Background(), `SELECT backend_type, pid FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'provwatch%'`)
	if err != nil {
		b.Fatal(err)
	}
	pids := map[string][]int{}
	var kind string
	var pid int
	if _, err := pgx.ForEachRow(rows, []any{&kind, &pid}, func() error { pids[kind] = append(pids[kind], pid); return nil }); err != nil {
		b.Fatal(err)
	}
	return pids
}

// recorded returns how many alerts there are, and in how many transactions they
// were written.
func (a *arm) recorded(b *testing.B) (alerts, recordings int) {
	if !a.running {
		return 0, 0
	}
	if err := a.database.conn.QueryRow(context.Background(), `SELECT count(*), count(DISTINCT xmin::text)
		FROM provwatch.drift_alerts`).Scan(&alerts, &recordings); err != nil {
		b.Fatal(err)
	}
	return alerts, recordings
}

// caughtUp waits until what is recorded of each provider is what its row shows,
// and returns how long that took.
func (a *arm) caughtUp(b *testing.B) time.Duration {
	start := time.Now()
	for {
		var agree bool
		if err := a.database.conn.QueryRow(context.Background(), `SELECT NOT EXISTS (
			SELECT FROM ai_providers p LEFT JOIN provwatch.drift_state s ON s.provider = p.name
			WHERE (p.base_url LIKE 'https://drifted-%') IS DISTINCT FROM (s.kind = 'changed'))`).Scan(&agree); err != nil {
			b.Fatal(err)
		}
		if agree {
			return time.Since(start)
		}
		if time.Since(start) > patience {
			b.Fatalf("the worker has not caught up after %s", patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
