//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// latencyArm is the worker, or a bare peer that does the least that could answer a change.
type latencyArm struct {
	name     string
	of       string // the arm that it is compared with
	bare     string // role of the peer, empty for the worker
	withRow  bool   // the peer inserts a row for each answer
	database *database
	arrivals <-chan arrival

	// From just before the commit and from when it returned; of an alert also
	// from before the commit to its detection, and from there to its arrival.
	before, after, detected, published []time.Duration
}

// BenchmarkLatency measures from when a change is committed to when its alert
// has arrived, beside the least that could answer a change: a listener, or a
// reader of the WAL, that answers at once.
func BenchmarkLatency(b *testing.B) {
	arms := []*latencyArm{
		{name: "bare LISTEN/NOTIFY", bare: roleAnswer},
		{name: "bare LISTEN/NOTIFY, with a row", bare: roleAnswer, withRow: true},
		{name: "notify", of: "bare LISTEN/NOTIFY"},
		{name: "bare WAL reader", bare: roleAnswerWAL},
		{name: "bare WAL reader, with a row", bare: roleAnswerWAL, withRow: true},
		{name: "wal", of: "bare WAL reader"},
	}
	for i, a := range arms {
		a.start(b, fmt.Sprintf("latency_%d", i))
	}
	r := newResult("latency")
	const warm = 20
	for i := range warm + *alerts {
		for j := range arms {
			// Alerts are written at most 20 times a second, and the arms take turns.
			time.Sleep(5*time.Millisecond + rand.N(15*time.Millisecond))
			arms[(i+j)%len(arms)].measure(b, i%*providers, i >= warm)
		}
	}
	for _, a := range arms {
		for metric, list := range map[string][]time.Duration{"before commit": a.before, "after commit": a.after, "detected": a.detected, "published": a.published} {
			for _, took := range list {
				r.add(a.name, *providers, metric, took.Seconds())
			}
		}
	}
	r.close(b)

	fmt.Printf("\nLatency: %d changes for each arm, %d providers, fsync %s; ms; foreign cores %.2f\n\n", *alerts, *providers, *fsync, r.ForeignCores)
	header("arm", "from the commit: p50", "p90", "p99", "max", "p50 of bare", "p99 of bare", "from its end: p50", "p90", "p99", "until detected: p50", "from there: p50")
	sorted := map[string][]time.Duration{}
	for _, a := range arms {
		for _, list := range [][]time.Duration{a.before, a.after, a.detected, a.published} {
			slices.Sort(list)
		}
		sorted[a.name] = a.before
		a.print(sorted)
	}
	fmt.Println()
}

// start starts the worker or the peer on a database of its own.
func (a *latencyArm) start(b *testing.B, name string) {
	b.Helper()
	if a.bare == "" {
		a.database = newDatabase(b, name, a.name)
		a.arrivals = a.database.listen("ai_provider_drift")
		a.database.start(a.name).ready()
		return
	}
	a.database = newDatabase(b, name, "")
	execute(b, a.database.conn, answersTable)
	a.arrivals = a.database.listen("answers")
	env := []string{slotVariable + "=" + name}
	if a.withRow {
		env = append(env, insertVariable+"=1")
	}
	if a.bare == roleAnswerWAL {
		execute(b, a.database.conn, barePublication)
		execute(b, a.database.conn, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name)
	}
	a.database.peer(a.bare, env...).expect("ready")
}

// measure changes a provider and waits for the answer.
func (a *latencyArm) measure(b *testing.B, row int, counted bool) {
	b.Helper()
	ctx := context.Background()
	id := a.database.ids[row]
	tx, err := a.database.conn.Begin(ctx)
	if err != nil {
		b.Fatal(err)
	}
	change := func(sql string, args ...any) {
		if _, err := tx.Exec(ctx, sql, args...); err != nil {
			b.Fatal(err)
		}
	}
	change(toggle, id, providerURL(row), driftedURL(row))
	if a.bare == roleAnswer {
		change("SELECT pg_notify('changes', $1)", id)
	}
	start := time.Now()
	if err := tx.Commit(ctx); err != nil {
		b.Fatal(err)
	}
	committed := time.Now()
	got := next(b, a.arrivals)
	if !counted {
		return
	}
	a.before = append(a.before, got.at.Sub(start))
	a.after = append(a.after, got.at.Sub(committed))
	if a.bare != "" {
		if got.payload != id {
			b.Fatalf("an answer of %s arrived, want one of %s", got.payload, id)
		}
		return
	}
	var alert struct {
		ProviderID string    `json:"provider_id"`
		DetectedAt time.Time `json:"detected_at"`
	}
	if err := json.Unmarshal([]byte(got.payload), &alert); err != nil {
		b.Fatal(err)
	}
	if alert.ProviderID != id {
		b.Fatalf("an alert of %s arrived, want one of %s", alert.ProviderID, id)
	}
	a.detected = append(a.detected, alert.DetectedAt.Sub(start))
	a.published = append(a.published, got.at.Sub(alert.DetectedAt))
}

// print prints the arm's row. It has the times from the commit, sorted, of the arms before.
func (a *latencyArm) print(sorted map[string][]time.Duration) {
	of := func(list []time.Duration, q float64) string {
		if len(list) == 0 {
			return "–"
		}
		return milliseconds(quantile(list, q))
	}
	ratio := func(q float64) string {
		if a.of == "" {
			return "–"
		}
		// Beside the bare answer, and beside the one that is as durable.
		return fmt.Sprintf("%.2f (with a row: %.2f)", float64(quantile(a.before, q))/float64(quantile(sorted[a.of], q)),
			float64(quantile(a.before, q))/float64(quantile(sorted[a.of+", with a row"], q)))
	}
	row(a.name, of(a.before, 0.5), of(a.before, 0.9), of(a.before, 0.99), of(a.before, 1), ratio(0.5), ratio(0.99),
		of(a.after, 0.5), of(a.after, 0.9), of(a.after, 0.99), of(a.detected, 0.5), of(a.published, 0.5))
}

// next waits for what arrives next.
func next(b *testing.B, arrivals <-chan arrival) arrival {
	b.Helper()
	select {
	case a := <-arrivals:
		return a
	case <-time.After(patience):
		b.Fatalf("nothing arrived within %s", patience)
		return arrival{}
	}
}
