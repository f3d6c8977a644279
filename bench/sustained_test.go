//go:build bench

package bench

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/schema"
)

var (
	sustainedSizes  = flag.String("sustained-sizes", "1000", "Sustained: numbers of providers")
	sustainedCases  = flag.String("sustained-cases", "1 news,1 none,10 news,10 none", "Sustained: rows in a transaction, and whether one change of ten is news")
	sustainedRounds = flag.Int("sustained-rounds", 5, "Sustained: rounds")
	backlog         = flag.Int("backlog", 200000, "Sustained: changes that wait in the WAL")
	live            = flag.Duration("live", 5*time.Second, "Sustained: how long writers run while a reader follows them, 0 for not at all")
)

// lastURL is what the last change of a backlog sets, which is news.
const lastURL = "https://the-last.example/v1/"

// makeBacklog writes $1 changes in transactions of $2 rows; with $3 one change of
// ten is of the base URL. It leaves the provider of the first id alone.
const makeBacklog = `
CREATE PROCEDURE make_backlog(changes int, per_transaction int, news boolean) LANGUAGE plpgsql AS $$
DECLARE
	ids uuid[] := ARRAY(SELECT id FROM ai_providers WHERE name <> 'provider-0' ORDER BY id);
	one uuid;
BEGIN
	FOR i IN 1..changes LOOP
		one := ids[1 + (i::bigint * 7919) % cardinality(ids)];
		IF news AND i % 10 = 0 THEN
			UPDATE ai_providers SET base_url = 'https://drifted-' || i || '.example/v1/', updated_at = now() WHERE id = one;
		ELSE
			UPDATE ai_providers SET display_name = 'Provider ' || i, updated_at = now() WHERE id = one;
		END IF;
		IF i % per_transaction = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
	COMMIT;
	UPDATE ai_providers SET base_url = '` + lastURL + `', updated_at = now() WHERE name = 'provider-0';
END $$`

// kept are the worker's tables that a replay of the backlog begins with.
var kept = []string{"wal_mirror", "wal_position", "drift_state", "drift_alerts", "alert_counter"}

// BenchmarkSustained measures how many changes a second the worker handles that
// wait in the WAL, beside a reader that only decodes them, each from a copy of
// the same slot.
func BenchmarkSustained(b *testing.B) {
	r := newResult("sustained")
	type caseOf struct {
		n       int
		name    string
		lag     string
		foreign float64
	}
	var cases []caseOf
	for _, n := range sizes(b, *sustainedSizes) {
		for name := range strings.SplitSeq(*sustainedCases, ",") {
			perTransaction, news, _ := strings.Cut(name, " ")
			before := readUsage()
			replay := newReplay(b, fmt.Sprintf("sustained_%d", len(cases)), n, sizes(b, perTransaction)[0], news == "news")
			for round := range *sustainedRounds {
				arms := []func(string){replay.bare, replay.worker}
				for i := range arms {
					arms[(round+i)%2](name)
				}
			}
			replay.report(r, name)
			if *profile != "" {
				replay.profiling = strings.ReplaceAll(fmt.Sprintf("sustained-%d-%s", n, name), " ", "-")
				replay.worker(name)
				replay.profiling = ""
			}
			c := caseOf{n: n, name: name, foreign: readUsage().foreign(before)}
			if *live > 0 && name == strings.Split(*sustainedCases, ",")[0] {
				c.lag = replay.live(r, name)
			}
			replay.drop()
			cases = append(cases, c)
		}
	}
	r.close(b)

	fmt.Printf("\nSustained: a backlog of %d changes, %d rounds, fsync %s; median [quartiles]; foreign cores %.2f\n\n", *backlog, *sustainedRounds, *fsync, r.ForeignCores)
	header("providers", "rows a transaction", "alerts", "bare reader: changes/s", "worker: changes/s", "worker / bare", "µs of processor for a change: bare reader", "worker", "its sessions", "foreign cores")
	for _, c := range cases {
		rows, news, _ := strings.Cut(c.name, " ")
		of := func(arm, metric, format string) string { return middle(format, r.of(arm+", "+c.name, c.n, metric)) }
		row(c.n, rows, map[string]string{"news": "1 change of 10", "none": "none"}[news],
			of("bare reader", "changes per second", "%.0f"), of("worker", "changes per second", "%.0f"),
			middle("%.3f", r.ratios("worker, "+c.name, "bare reader, "+c.name, c.n, "changes per second")),
			of("bare reader", "processor µs", "%.1f"), of("worker", "processor µs", "%.1f"), of("worker", "sessions' processor µs", "%.1f"),
			fmt.Sprintf("%.2f", c.foreign))
	}
	fmt.Println()
	for _, c := range cases {
		if c.lag != "" {
			fmt.Printf("%d providers, %s\n\n", c.n, c.lag)
		}
	}
}

// replay is a backlog, and what is needed to begin with it again.
type replay struct {
	*database
	n, alerts int
	slot      string // of the worker
	env       string
	profiling string

	took, used, sessions map[string][]float64
}

// newReplay makes the database, a slot at the start of the backlog, and the
// backlog.
func newReplay(b *testing.B, name string, n, perTransaction int, news bool) *replay {
	b.Helper()
	ctx := context.Background()
	d := emptyDatabase(b, name)
	d.migrate(schema.Needs{Publication: true})
	execute(b, d.conn, barePublication)
	execute(b, d.conn, "ALTER TABLE ai_providers SET (fillfactor = 50)")
	d.fill(desiredProviders(b, n), true)
	r := &replay{
		database: d, n: n, env: environmentFile(b, n),
		took: map[string][]float64{}, used: map[string][]float64{}, sessions: map[string][]float64{},
	}
	// The worker makes its slot and its mirror.
	d.launch(nil, "--source=wal", "--env-file="+r.env).waitLonger("msg=ready", 10*patience).end(syscall.SIGTERM)
	if err := d.conn.QueryRow(ctx, "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()").Scan(&r.slot); err != nil {
		b.Fatal(err)
	}
	execute(b, d.conn, "SELECT pg_copy_logical_replication_slot($1, $2)", r.slot, name+"_start")
	for _, table := range kept {
		execute(b, d.conn, fmt.Sprintf("CREATE TABLE kept_%s AS TABLE provwatch.%s", table, table))
	}
	execute(b, d.conn, makeBacklog)
	execute(b, d.conn, "SET synchronous_commit = off")
	if _, err := d.conn.Exec(ctx, fmt.Sprintf("CALL make_backlog(%d, %d, %t)", *backlog, perTransaction, news), pgx.QueryExecModeSimpleProtocol); err != nil {
		b.Fatal(err)
	}
	execute(b, d.conn, "RESET synchronous_commit")
	// Makes it durable, or the server would not decode all of it.
	execute(b, d.conn, "CREATE TABLE written ()")
	r.alerts = 1
	if news {
		r.alerts += *backlog / 10
	}
	execute(b, d.conn, "VACUUM ANALYZE ai_providers")
	return r
}

// drop drops all slots of the database, so that they no longer keep WAL.
func (r *replay) drop() { r.dropSlots("%") }

// dropSlots drops the slots of a name, whoever reads them.
func (r *replay) dropSlots(like string) {
	execute(r.b, r.conn, `SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots
		WHERE database = current_database() AND slot_name LIKE $1 AND active`, like)
	execute(r.b, r.conn, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE $1", like)
}

// copySlot makes a slot that begins where the backlog does.
func (r *replay) copySlot(slot string) {
	r.dropSlots(slot)
	execute(r.b, r.conn, "SELECT pg_copy_logical_replication_slot($1, $2)", r.name+"_start", slot)
}

func (r *replay) keep(name, arm string, took time.Duration, used, sessions float64) {
	key := arm + ", " + name
	changes := float64(*backlog)
	r.took[key] = append(r.took[key], changes/took.Seconds())
	r.used[key] = append(r.used[key], used*1e6/changes)
	r.sessions[key] = append(r.sessions[key], sessions*1e6/changes)
}

func (r *replay) report(to *result, name string) {
	for _, arm := range []string{"bare reader", "worker"} {
		key := arm + ", " + name
		to.add(key, r.n, "changes per second", r.took[key]...)
		to.add(key, r.n, "processor µs", r.used[key]...)
		to.add(key, r.n, "sessions' processor µs", r.sessions[key]...)
	}
}

// bare reads the backlog with the bare reader.
func (r *replay) bare(name string) {
	slot := r.name + "_bare"
	r.copySlot(slot)
	execute(r.b, r.conn, "CHECKPOINT")
	p := r.peer(roleRead, slotVariable+"="+slot)
	streaming := p.expect("streaming")
	fmt.Fprintln(p.input, *backlog+1)
	read := p.expect("read")
	p.end()
	if read[1] != int64(*backlog)+1 {
		r.b.Fatalf("the bare reader has read %d changes, want %d", read[1], *backlog+1)
	}
	r.keep(name, "bare reader", time.Duration(read[0]-streaming[0]), float64(read[2])/1e9, 0)
	r.dropSlots(slot)
}

// worker lets the worker handle the backlog: it has when the alert of the last
// change is committed.
func (r *replay) worker(name string) {
	b, ctx := r.b, context.Background()
	r.copySlot(r.slot)
	for _, table := range kept {
		execute(b, r.conn, "TRUNCATE provwatch."+table)
		execute(b, r.conn, fmt.Sprintf("INSERT INTO provwatch.%s TABLE kept_%s", table, table))
		execute(b, r.conn, "VACUUM ANALYZE provwatch."+table)
	}
	execute(b, r.conn, "CHECKPOINT")
	args := []string{"--source=wal", "--env-file=" + r.env}
	if r.profiling != "" {
		args = append(args, "--debug", "--http-addr=127.0.0.1:0")
	}
	w := r.launch(nil, args...)
	w.waitLonger("msg=streaming", 10*patience)
	streaming := w.at("msg=streaming")
	before, started := readUsage(), time.Now()
	var profiling sync.WaitGroup
	stop := make(chan struct{})
	if r.profiling != "" {
		profiling.Go(func() { w.saveProfile(r.profiling, stop) })
	}
	for seen := false; !seen; time.Sleep(5 * time.Millisecond) {
		if err := r.conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM provwatch.drift_alerts WHERE provider = 'provider-0')").Scan(&seen); err != nil {
			b.Fatal(err)
		}
		if time.Since(started) > 10*patience {
			b.Fatalf("the worker has not handled the backlog:\n%.4000s", w.text())
		}
	}
	ended, after := time.Now(), readUsage()
	close(stop)
	profiling.Wait()
	arm := &arm{database: r.database}
	sessions := after.cores(before, arm.pids(b)["client backend"]...) * after.at.Sub(before.at).Seconds()
	used := after.cores(before, w.command.Process.Pid) * after.at.Sub(before.at).Seconds()
	w.waitFor("msg=ready").end(syscall.SIGTERM)
	var alerts int
	if err := r.conn.QueryRow(ctx, "SELECT count(*) FROM provwatch.drift_alerts").Scan(&alerts); err != nil {
		b.Fatal(err)
	}
	if alerts != r.alerts {
		b.Fatalf("the worker has written %d alerts, want %d", alerts, r.alerts)
	}
	if r.profiling == "" {
		r.keep(name, "worker", ended.Sub(streaming), used, sessions)
	}
}

// saveProfile writes a processor profile of the worker, of a second or until it
// is told to stop.
func (w *worker) saveProfile(name string, stop <-chan struct{}) {
	address := w.address()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		response, err := http.Get("http://" + address + "/debug/pprof/profile?seconds=1")
		if err != nil {
			w.b.Error(err)
			return
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err == nil {
			err = os.WriteFile(filepath.Join(*profile, fmt.Sprintf("%s.%d.pprof", name, i)), text, 0o644)
		}
		if err != nil {
			w.b.Error(err)
			return
		}
	}
}

// live lets writers run at full speed, followed by nobody, the bare reader and
// the worker in turn, and returns how far behind each is at the end.
func (r *replay) live(to *result, name string) string {
	b, ctx := r.b, context.Background()
	var ids []string
	rows, err := r.conn.Query(ctx, "SELECT id::text FROM ai_providers WHERE name <> 'provider-0'")
	if err == nil {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		b.Fatal(err)
	}
	// write returns how many transactions were written before the last one, which
	// is of provider-0, and when that had committed.
	last := 0
	write := func() (written int64, at time.Time) {
		var count atomic.Int64
		var group sync.WaitGroup
		start := time.Now()
		for range *writers {
			conn := connect(b, r.name)
			group.Go(func() {
				defer conn.Close(ctx)
				for i := 0; time.Since(start) < *live; i++ {
					sql, value := "UPDATE ai_providers SET display_name = $2, updated_at = now() WHERE id = $1", fmt.Sprintf("Provider %d", i)
					if rand.IntN(10) == 0 {
						sql, value = "UPDATE ai_providers SET base_url = $2, updated_at = now() WHERE id = $1", fmt.Sprintf("https://live-%d.example/v1/", rand.Int64())
					}
					if _, err := conn.Exec(ctx, sql, ids[rand.IntN(len(ids))], value); err != nil {
						b.Error(err)
						return
					}
					count.Add(1)
				}
			})
		}
		group.Wait()
		last++
		execute(b, r.conn, "UPDATE ai_providers SET base_url = $1, updated_at = now() WHERE name = 'provider-0'", fmt.Sprintf("https://last-%d.example/v1/", last))
		return count.Load(), time.Now()
	}
	slot := r.name + "_live"
	arms := []struct {
		name string
		turn func() (written int64, lag time.Duration)
	}{
		{"nobody", func() (int64, time.Duration) {
			written, _ := write()
			return written, 0
		}},
		{"bare reader", func() (int64, time.Duration) {
			execute(b, r.conn, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot)
			p := r.peer(roleRead, slotVariable+"="+slot)
			p.expect("streaming")
			written, at := write()
			fmt.Fprintln(p.input, written+1)
			read := p.expect("read")
			p.end()
			r.dropSlots(slot)
			return written, time.Unix(0, read[0]).Sub(at)
		}},
		{"worker", func() (int64, time.Duration) {
			w := r.launch(nil, "--source=wal", "--env-file="+r.env).waitLonger("msg=ready", 10*patience)
			arrivals := r.listen("ai_provider_drift")
			written, at := write()
			lag := await(b, arrivals, `"provider":"provider-0"`).Sub(at)
			w.end(syscall.SIGTERM)
			return written, lag
		}},
	}
	text := fmt.Sprintf("live: %d writers for %s, one change a transaction, one of ten an alert; %d rounds:", *writers, *live, min(3, *sustainedRounds))
	for round := range min(3, *sustainedRounds) {
		for i := range arms {
			a := arms[(round+i)%len(arms)]
			execute(b, r.conn, "VACUUM ai_providers")
			execute(b, r.conn, "CHECKPOINT")
			written, lag := a.turn()
			to.add(a.name+", live", r.n, "transactions per second", float64(written)/live.Seconds())
			to.add(a.name+", live", r.n, "lag", lag.Seconds())
		}
	}
	for _, a := range arms {
		text += fmt.Sprintf("\n- %s: %s transactions/s, behind at the end by %s s", a.name,
			middle("%.0f", to.of(a.name+", live", r.n, "transactions per second")), middle("%.3f", to.of(a.name+", live", r.n, "lag")))
	}
	return text
}
