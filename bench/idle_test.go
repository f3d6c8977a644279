//go:build bench

package bench

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"provwatch/internal/schema"
)

var (
	idleProviders = flag.Int("idle-providers", 100, "Idle: providers")
	idleSettle    = flag.Duration("idle-settle", 150*time.Second, "Idle: how long workers are left alone first; a connection of the pool is closed within two minutes")
	idleWindow    = flag.Duration("idle-window", time.Minute, "Idle: how long they are looked at")
)

// BenchmarkIdle measures what workers cost while nothing happens: between two
// resyncs, with each source, the leader and a standby.
func BenchmarkIdle(b *testing.B) {
	ctx := context.Background()
	r := newResult("idle")
	type idle struct {
		name        string
		d           *database
		worker      *worker
		connections string
	}
	var all []*idle
	names := map[string]string{} // in the server's log, by database and application
	for _, source := range []string{"notify", "wal"} {
		d := emptyDatabase(b, "idle_"+source)
		d.migrate(schema.Needs{Triggers: source == "notify", Publication: source == "wal"})
		d.fill(desiredProviders(b, *idleProviders), false)
		execute(b, d.conn, "ALTER DATABASE "+d.name+" SET log_statement = 'all'")
		for _, role := range []string{"leader", "standby"} {
			one := &idle{name: source + ", " + role, d: d}
			one.worker = d.launch([]string{"PGAPPNAME=" + role}, "--source="+source, "--env-file="+environmentFile(b, *idleProviders)).ready()
			if one.worker.logged("msg=leading") != (role == "leader") {
				b.Fatal("it is not the worker that was started first that leads")
			}
			names[d.name+" "+role] = one.name
			all = append(all, one)
		}
	}
	time.Sleep(*idleSettle)
	offset := fileSize(b, server.log)
	before := readUsage()
	time.Sleep(*idleWindow)
	after := readUsage()
	statements := loggedStatements(b, offset, names)
	for _, one := range all {
		pid := one.worker.command.Process.Pid
		_, role, _ := strings.Cut(one.name, ", ")
		var connections int
		if err := one.d.conn.QueryRow(ctx, `SELECT count(*), coalesce(string_agg(application_name, ', ' ORDER BY application_name), '')
			FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE $1`, role+"%").Scan(&connections, &one.connections); err != nil {
			b.Fatal(err)
		}
		count := 0
		for _, n := range statements[one.name] {
			count += n
		}
		r.add(one.name, *idleProviders, "RSS MB", statusMB(b, pid, "VmRSS"))
		r.add(one.name, *idleProviders, "anonymous MB", statusMB(b, pid, "RssAnon"))
		r.add(one.name, *idleProviders, "threads", statusOf(b, pid, "Threads"))
		r.add(one.name, *idleProviders, "connections", float64(connections))
		r.add(one.name, *idleProviders, "statements per minute", float64(count)/idleWindow.Minutes())
		r.add(one.name, *idleProviders, "processor %", after.cores(before, pid)*100)
	}
	size, stripped := binarySizes(b)
	r.add("binary", 0, "MB", size)
	r.add("binary, stripped", 0, "MB", stripped)
	r.close(b)

	fmt.Printf("\nIdle: %d providers, looked at for %s after %s; foreign cores %.2f\n\n", *idleProviders, *idleWindow, *idleSettle, r.ForeignCores)
	header("worker", "RSS MB", "of it anonymous", "threads", "connections", "statements/minute", "processor %")
	for _, one := range all {
		of := func(metric, format string) string { return middle(format, r.of(one.name, *idleProviders, metric)) }
		row(one.name, of("RSS MB", "%.1f"), of("anonymous MB", "%.1f"), of("threads", "%.0f"), fmt.Sprintf("%s: %s", of("connections", "%.0f"), one.connections), of("statements per minute", "%.1f"), of("processor %", "%.2f"))
	}
	fmt.Printf("\nbinary: %.1f MB, stripped (-ldflags '-s -w') %.1f MB\n\n", size, stripped)
	header("worker", "statement", "times")
	for _, one := range all {
		list := statements[one.name]
		for _, text := range slices.SortedFunc(maps.Keys(list), func(a, b string) int { return cmp.Or(-cmp.Compare(list[a], list[b]), cmp.Compare(a, b)) }) {
			row(one.name, "`"+text+"`", list[text])
		}
	}
	fmt.Println()
}

// statementLine is a statement in the server's log, by log_line_prefix.
var statementLine = regexp.MustCompile(`^(\S+) ([a-z]+)(?:-[a-z]+)?: LOG:  (?:statement|execute [^:]*): (.*)`)

// loggedStatements returns how often each statement is in the server's log from
// an offset on, by the worker that sent it.
func loggedStatements(b *testing.B, offset int64, names map[string]string) map[string]map[string]int {
	b.Helper()
	text, err := os.ReadFile(server.log)
	if err != nil {
		b.Fatal(err)
	}
	found := map[string]map[string]int{}
	for line := range bytes.Lines(text[offset:]) {
		m := statementLine.FindStringSubmatch(strings.TrimSpace(string(line)))
		if m == nil {
			continue
		}
		name, ours := names[m[1]+" "+m[2]]
		if !ours {
			continue
		}
		if found[name] == nil {
			found[name] = map[string]int{}
		}
		found[name][m[3]]++
	}
	return found
}

func fileSize(b *testing.B, path string) int64 {
	b.Helper()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

// binarySizes returns the size of the worker in MB, as it is built and stripped.
func binarySizes(b *testing.B) (size, stripped float64) {
	b.Helper()
	path := filepath.Join(filepath.Dir(binary), "stripped")
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "provwatch/cmd/worker").CombinedOutput(); err != nil {
		b.Fatalf("build the worker: %v\n%s", err, out)
	}
	return float64(fileSize(b, binary)) / (1 << 20), float64(fileSize(b, path)) / (1 << 20)
}
