//go:build bench

package bench

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"provwatch/internal/schema"
)

var (
	targetCount   = flag.Int("targets", 200, "Targets: databases of the one worker")
	targetSources = flag.String("target-sources", "notify,wal", "Targets: the sources, one after the other")
	targetSettle  = flag.Duration("target-settle", 30*time.Second, "Targets: how long the worker is left alone first; a connection of a target is closed within 20 seconds")
	targetWindow  = flag.Duration("target-window", time.Minute, "Targets: how long it is looked at")
	targetBlocks  = flag.Int("target-blocks", 4, "Targets: blocks of changes for each arm, which take turns")
	targetChanges = flag.Int("target-changes", 50, "Targets: changes of a block")
)

// providersOfATarget is how many each target has.
const providersOfATarget = 5

// BenchmarkTargets measures one worker that watches many databases of a server: how
// long until all are watched, what it costs idle, and from a commit in one of them
// to its alert, beside a worker of one database.
func BenchmarkTargets(b *testing.B) {
	n := *targetCount
	usual := server
	room := fmt.Sprint(n + 20)
	large, err := startCluster(map[string]string{
		"max_connections": fmt.Sprint(4*n + 50), "max_replication_slots": room, "max_wal_senders": room,
	})
	if err != nil {
		b.Fatal(err)
	}
	server = large
	b.Cleanup(func() { // the last one, after those of what is on the server
		server = usual
		large.stop()
	})
	r := newResult("targets")
	sources := strings.Split(*targetSources, ",")
	for _, source := range sources {
		measureTargets(b, r, source, n)
	}
	r.close(b)

	fmt.Printf("\nTargets: %d databases of %d providers, fsync %s; idle for %s after %s; foreign cores %.2f\n\n",
		n, providersOfATarget, *fsync, *targetWindow, *targetSettle, r.ForeignCores)
	header("worker", "all ready, s", "connections while it starts", "idle connections", "RSS MB", "processor %", "transactions/minute")
	for _, source := range sources {
		for _, arm := range []string{"many", "one"} {
			of := func(metric, format string) string { return middle(format, r.of(source+", "+arm, n, metric)) }
			row(source+", "+arm, of("ready s", "%.1f"), of("peak connections", "%.0f"), of("connections", "%.0f"), of("RSS MB", "%.1f"),
				of("processor %", "%.2f"), of("transactions per minute", "%.0f"))
		}
	}
	fmt.Println()
	header("commit to alert, ms", "changes", "p50", "p99", "p50 by block")
	for _, source := range sources {
		for _, arm := range []string{"many", "many, again", "one"} {
			var list []time.Duration
			for _, seconds := range r.of(source+", "+arm, n, "latency s") {
				list = append(list, time.Duration(seconds*float64(time.Second)))
			}
			var blocks []string
			for i := 0; i+*targetChanges <= len(list); i += *targetChanges {
				blocks = append(blocks, milliseconds(quantile(sorted(list[i:i+*targetChanges]), 0.5)))
			}
			all := sorted(list)
			row(source+", "+arm, len(all), milliseconds(quantile(all, 0.5)), milliseconds(quantile(all, 0.99)), strings.Join(blocks, ", "))
		}
	}
	fmt.Println()
}

func measureTargets(b *testing.B, r *result, source string, n int) {
	ctx := context.Background()
	template := emptyDatabase(b, "template_"+source)
	template.migrate(schema.Needs{Triggers: source == "notify", Publication: source == "wal"})
	_ = template.conn.Close(ctx) // as a template nobody may be connected to it
	admin := connect(b, "postgres")
	defer admin.Close(ctx)
	environment := environmentFile(b, providersOfATarget)
	names := make([]string, n+1)
	file := "targets:\n"
	for i := range names {
		names[i] = fmt.Sprintf("target_%s_%d", source, i)
		execute(b, admin, "CREATE DATABASE "+names[i]+" TEMPLATE "+template.name+" STRATEGY FILE_COPY")
		if i < n { // the last one is that of the other worker
			file += fmt.Sprintf("  - {name: t%d, env_file: %s, database: '%s'}\n", i, environment, (&database{name: names[i]}).dsn())
		}
	}
	path := filepath.Join(filepath.Dir(binary), "targets-"+source+".yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		b.Fatal(err)
	}
	execute(b, admin, "CHECKPOINT")

	many, one := source+", many", source+", one"
	alone := &database{b: b, name: names[n]}
	begun := time.Now()
	single := alone.launch(nil, "--source="+source, "--env-file="+environment).ready()
	r.add(one, n, "ready s", time.Since(begun).Seconds())
	number := func(sql string) (count float64) {
		b.Helper()
		if err := admin.QueryRow(ctx, sql).Scan(&count); err != nil {
			b.Fatal(err)
		}
		return count
	}
	connections := func(where string) float64 {
		return number("SELECT count(*)::float8 FROM pg_stat_activity WHERE application_name LIKE 'provwatch%' AND datname " + where)
	}
	notAlone := "<> '" + alone.name + "'"
	begun = time.Now()
	all := launch(b, nil, "--config="+path, "--source="+source)
	peak := 0.0
	for deadline := begun.Add(5 * patience); strings.Count(all.text(), "msg=ready") < n; time.Sleep(50 * time.Millisecond) {
		peak = max(peak, connections(notAlone))
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d targets are ready:\n%s", strings.Count(all.text(), "msg=ready"), n, all.text())
		}
	}
	r.add(many, n, "ready s", time.Since(begun).Seconds())
	r.add(many, n, "peak connections", peak)
	time.Sleep(*targetSettle)

	transactions := func(where string) float64 {
		return number("SELECT sum(xact_commit + xact_rollback)::float8 FROM pg_stat_database WHERE datname LIKE 'target%' AND datname " + where)
	}
	manyBefore, oneBefore := transactions(notAlone), transactions("= '"+alone.name+"'")
	before := readUsage()
	time.Sleep(*targetWindow)
	after := readUsage()
	r.add(many, n, "transactions per minute", (transactions(notAlone)-manyBefore)/targetWindow.Minutes())
	r.add(one, n, "transactions per minute", (transactions("= '"+alone.name+"'")-oneBefore)/targetWindow.Minutes())
	r.add(many, n, "connections", connections(notAlone))
	r.add(one, n, "connections", connections("= '"+alone.name+"'"))
	for arm, w := range map[string]*worker{many: all, one: single} {
		pid := w.command.Process.Pid
		r.add(arm, n, "RSS MB", statusMB(b, pid, "VmRSS"))
		r.add(arm, n, "processor %", after.cores(before, pid)*100)
	}

	for range *targetBlocks {
		for range *targetChanges {
			took := changesOf(b, names[rand.N(n)], 2)
			r.add(many, n, "latency s", took[0].Seconds())
			r.add(many+", again", n, "latency s", took[1].Seconds())
		}
		for range *targetChanges {
			r.add(one, n, "latency s", changesOf(b, alone.name, 1)[0].Seconds())
		}
	}
	for _, w := range []*worker{all, single} {
		w.end(syscall.SIGTERM)
	}
	execute(b, admin, "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE database LIKE 'target%' AND active")
	execute(b, admin, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database LIKE 'target%'")
	for _, name := range names {
		execute(b, admin, "DROP DATABASE "+name+" WITH (FORCE)")
	}
}

// changesOf changes a provider of a database so often, one after the other, and
// returns the times from before each commit until its alert has arrived.
func changesOf(b *testing.B, name string, times int) (list []time.Duration) {
	b.Helper()
	ctx := context.Background()
	listening, writing := connect(b, name), connect(b, name)
	defer listening.Close(ctx)
	defer writing.Close(ctx)
	execute(b, listening, "LISTEN ai_provider_drift")
	execute(b, writing, "SELECT 1 FROM ai_providers")
	for range times {
		// Alerts are written at most 20 times a second.
		time.Sleep(60*time.Millisecond + rand.N(20*time.Millisecond))
		start := time.Now()
		execute(b, writing, `UPDATE ai_providers SET base_url = CASE base_url WHEN $1 THEN $2 ELSE $1 END, updated_at = now() WHERE name = $3`,
			providerURL(0), driftedURL(0), providerName(0))
		waiting, cancel := context.WithTimeout(ctx, patience)
		_, err := listening.WaitForNotification(waiting)
		cancel()
		if err != nil {
			b.Fatalf("no alert in %s: %v", name, err)
		}
		list = append(list, time.Since(start))
	}
	return list
}

func sorted(list []time.Duration) []time.Duration { return slices.Sorted(slices.Values(list)) }
