//go:build bench

package bench

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/provider"
	"provwatch/internal/schema"
)

var (
	memorySizes  = flag.String("memory-sizes", "1000,1000000", "Memory: numbers of rows; the largest also with an environment that names 10 of them")
	memorySettle = flag.Duration("memory-settle", 10*time.Second, "Memory: how long a worker is left alone before it is measured")
	memoryLooks  = flag.Int("memory-looks", 3, "Memory: full verifications")
)

// largeBoot is how long a worker may take to be ready with many providers.
const largeBoot = 20 * time.Minute

// BenchmarkMemory measures what a worker holds in memory, and at most while it
// verifies everything.
func BenchmarkMemory(b *testing.B) {
	r := newResult("memory")
	type memoryCase struct {
		source      string
		rows, named int
	}
	var cases []memoryCase
	sizes := sizes(b, *memorySizes)
	largest := sizes[len(sizes)-1]
	for _, n := range sizes {
		d := emptyDatabase(b, fmt.Sprintf("memory_%d", n))
		d.migrate(schema.Needs{Triggers: true})
		desired := desiredProviders(b, n)
		d.fill(desired, false)
		var named []int
		if n == largest && n > 10 {
			named = append(named, 10)
		}
		for _, m := range append(named, n) {
			if m == n {
				d.recordAll(desired)
			}
			for _, source := range []string{"notify", "wal"} {
				c := memoryCase{source, n, m}
				cases = append(cases, c)
				d.measureMemory(r, c.source, fmt.Sprintf("%s, %d rows", source, n), m)
			}
		}
	}
	r.close(b)

	fmt.Printf("\nMemory: MB; foreign cores %.2f\n\n", r.ForeignCores)
	header("source", "rows", "named in the environment", "ready after s", "resident, idle", "most while verifying everything", "most / smallest of the source", "verification took ms")
	smallest := map[string]float64{}
	for _, c := range cases {
		arm := fmt.Sprintf("%s, %d rows", c.source, c.rows)
		peak := median(r.of(arm, c.named, "peak RSS MB"))
		if c.rows == sizes[0] && c.named == c.rows {
			smallest[c.source] = peak
		}
		ratio := "–"
		if s := smallest[c.source]; s > 0 {
			ratio = fmt.Sprintf("%.2f", peak/s)
		}
		row(c.source, c.rows, c.named, middle("%.1f", r.of(arm, c.named, "ready after seconds")), middle("%.1f", r.of(arm, c.named, "RSS MB")),
			fmt.Sprintf("%.1f", peak), ratio, middle("%.0f", r.of(arm, c.named, "verification ms")))
	}
	fmt.Println()
}

// recordAll records that all providers are in sync.
func (d *database) recordAll(desired []provider.Desired) {
	d.b.Helper()
	ids := map[string]uuid.UUID{}
	rows, err := d.conn.Query(context.Background(), "SELECT name, id FROM ai_providers")
	if err != nil {
		d.b.Fatal(err)
	}
	var name string
	var id uuid.UUID
	if _, err := pgx.ForEachRow(rows, []any{&name, &id}, func() error { ids[name] = id; return nil }); err != nil {
		d.b.Fatal(err)
	}
	list := make([]uuid.UUID, len(desired))
	for i, p := range desired {
		list[i] = ids[p.Name]
	}
	execute(d.b, d.conn, "TRUNCATE provwatch.drift_state")
	d.record(desired, list)
	execute(d.b, d.conn, "VACUUM ANALYZE provwatch.drift_state")
}

// measureMemory measures a worker whose environment names the first n providers.
func (d *database) measureMemory(r *result, source, arm string, n int) {
	b := d.b
	file, started := environmentFile(b, n), time.Now()
	w := d.launch(nil, "--source="+source, "--env-file="+file, "--http-addr=127.0.0.1:0", "--resync=24h")
	w.waitLonger("msg=ready", largeBoot)
	r.add(arm, n, "ready after seconds", w.at("msg=ready").Sub(started).Seconds())
	time.Sleep(*memorySettle)
	pid := w.command.Process.Pid
	r.add(arm, n, "RSS MB", statusMB(b, pid, "VmRSS"))
	for range *memoryLooks {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			b.Fatal(err)
		}
		looks, seconds := w.fullVerifications()
		// Without a hint: everything is looked at.
		execute(b, d.conn, "NOTIFY ai_providers_changed")
		deadline := time.Now().Add(largeBoot)
		for {
			time.Sleep(20 * time.Millisecond)
			if now, after := w.fullVerifications(); now > looks {
				r.add(arm, n, "verification ms", (after-seconds)*1000/float64(now-looks))
				break
			}
			if time.Now().After(deadline) {
				b.Fatalf("the worker has not verified everything:\n%.4000s", w.text())
			}
		}
		// The WAL source records what it saw once its marker has come.
		time.Sleep(500 * time.Millisecond)
		r.add(arm, n, "peak RSS MB", statusMB(b, pid, "VmHWM"))
	}
	w.end(syscall.SIGTERM)
}

// fullVerifications returns how many full verifications the worker has done, and
// how many seconds they took.
func (w *worker) fullVerifications() (count int, seconds float64) {
	w.b.Helper()
	response, err := http.Get("http://" + w.address() + "/metrics")
	if err != nil {
		w.b.Fatal(err)
	}
	defer response.Body.Close()
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		name, text, _ := strings.Cut(scanner.Text(), " ")
		value, _ := strconv.ParseFloat(text, 64)
		switch name {
		case `provwatch_verification_duration_seconds_count{scope="full"}`:
			count = int(value)
		case `provwatch_verification_duration_seconds_sum{scope="full"}`:
			seconds = value
		}
	}
	return count, seconds
}

// address returns where the worker serves HTTP.
func (w *worker) address() string {
	_, address, _ := strings.Cut(w.text(), "address=")
	address, _, _ = strings.Cut(address, "\n")
	return strings.TrimSpace(address)
}

// statusOf returns a number of /proc/PID/status.
func statusOf(b *testing.B, pid int, field string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			number, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return number
		}
	}
	b.Fatalf("/proc/%d/status has no %s", pid, field)
	return 0
}

func statusMB(b *testing.B, pid int, field string) float64 {
	b.Helper()
	return statusOf(b, pid, field) / 1024
}
