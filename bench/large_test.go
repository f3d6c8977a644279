//go:build bench

package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"provwatch/internal/schema"
)

var largeSizes = flag.String("large-sizes", "1000,100000", "LargeTransactions: numbers of rows that a transaction changes")

// largeTransactions each change $1 rows that the environment does not name, and one
// that it does, which is news.
var largeTransactions = []struct{ name, sql string }{
	{"insert", `INSERT INTO ai_providers (id, type, name, base_url, settings)
		SELECT gen_random_uuid(), 'anthropic', 'bulk-' || n, 'https://bulk-' || n || '.example/v1/',
			'{"_type":"bedrock","_version":1,"region":"us-east-1","model":"' || repeat('m', 200) || '"}'
		FROM generate_series(1, %d) n;
		UPDATE ai_providers SET enabled = false WHERE name = 'provider-0'`},
	{"update", `UPDATE ai_providers SET enabled = true WHERE name = 'provider-0';
		UPDATE ai_providers SET base_url = base_url || 'changed' WHERE name LIKE 'bulk-%%' AND %d > 0`},
	{"delete", `UPDATE ai_providers SET enabled = false WHERE name = 'provider-0';
		DELETE FROM ai_providers WHERE name LIKE 'bulk-%%' AND %d > 0`},
}

// BenchmarkLargeTransactions measures how much memory a worker takes at most for
// transactions that change many rows, and how long until the alert of the one row of
// them that the environment names.
func BenchmarkLargeTransactions(b *testing.B) {
	r := newResult("large_transactions")
	sources := []string{"notify", "wal"}
	for _, n := range sizes(b, *largeSizes) {
		for _, source := range sources {
			measureLargeTransactions(b, r, source, n)
		}
	}
	r.close(b)

	fmt.Printf("\nLarge transactions: MB resident, 10 providers named in the environment; foreign cores %.2f\n\n", r.ForeignCores)
	header("source", "rows", "before", "most in the insert", "update", "delete", "commit to alert, s: insert", "update", "delete")
	for _, source := range sources {
		for _, n := range sizes(b, *largeSizes) {
			cells := []any{source, n, middle("%.1f", r.of(source, n, "RSS MB"))}
			for _, metric := range []string{"peak RSS MB", "seconds"} {
				for _, t := range largeTransactions {
					cells = append(cells, middle("%.1f", r.of(source+", "+t.name, n, metric)))
				}
			}
			row(cells...)
		}
	}
	fmt.Println()
}

func measureLargeTransactions(b *testing.B, r *result, source string, n int) {
	d := emptyDatabase(b, fmt.Sprintf("large_%s_%d", source, n))
	d.migrate(schema.Needs{Triggers: source == "notify", Publication: source == "wal"})
	w := d.launch(nil, "--unmanaged=ignore", "--source="+source, "--env-file="+environmentFile(b, 10), "--resync=24h").ready()
	pid := w.command.Process.Pid
	time.Sleep(time.Second)
	r.add(source, n, "RSS MB", statusMB(b, pid, "VmRSS"))
	for i, t := range largeTransactions {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			b.Fatal(err)
		}
		execute(b, d.conn, fmt.Sprintf(t.sql, n)) // one transaction
		committed := time.Now()
		for alerts := 0; alerts <= i; time.Sleep(5 * time.Millisecond) {
			if err := d.conn.QueryRow(context.Background(), "SELECT count(*) FROM provwatch.drift_alerts").Scan(&alerts); err != nil {
				b.Fatal(err)
			}
			if time.Since(committed) > largeBoot {
				b.Fatalf("the worker has not alerted:\n%.4000s", w.text())
			}
		}
		r.add(source+", "+t.name, n, "seconds", time.Since(committed).Seconds())
		r.add(source+", "+t.name, n, "peak RSS MB", statusMB(b, pid, "VmHWM"))
	}
	w.end(syscall.SIGTERM)
}
