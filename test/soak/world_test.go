//go:build soak

package soak

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/schema"
)

// world is one run: a server, three workers behind a proxy each, writers, a
// nemesis, and who watches them.
type world struct {
	t         *testing.T
	source    string
	schedule  schedule
	cluster   *pgtest.Cluster        // of the nemesis: it is another one after a failover
	address   atomic.Pointer[string] // of the database
	moving    sync.RWMutex           // held for writing while the database moves to another server
	clock     *serverClock           // nil where the server's clock cannot be moved
	origin    time.Time              // shortly before the run
	groups    [][]wanted
	envFile   string
	variables variables // that the file sets
	workers   []*worker
	sinks     *sinks

	mu       sync.Mutex
	checker  *checker
	leaders  leaderSamples
	epochs   []epoch
	emitted  bytes.Buffer // everything that workers logged and published
	authors  map[int64]string
	found    []violation
	commits  int
	refused  int
	unknown  int
	faults   map[string]int
	skipped  map[string]int
	starts   int
	dropped  int // slots
	kept     int // slots of the workers that a failover has kept
	decoded  position
	begun    map[string]bool
	finished map[string]bool // writers' transactions whose commit was acknowledged
}

// run runs one world and reports.
func run(t *testing.T, seed uint64, source string, length time.Duration) report {
	w := &world{
		t: t, source: source, schedule: plan(seed, source, length), groups: environment(),
		envFile: filepath.Join(t.TempDir(), "providers.env"),
		authors: map[int64]string{}, faults: map[string]int{}, skipped: map[string]int{},
		begun: map[string]bool{}, finished: map[string]bool{},
	}
	w.startServer()
	w.checker = newChecker(w.groups)
	w.checker.real, w.checker.alertAfter, w.checker.applies = w.real, w.schedule.alertAfter, w.schedule.applies
	w.checker.follow(movingProvider())
	w.prepare()
	w.writeEnvFile()
	w.sinks = newSinks(w)

	// Who watches ends last.
	watching, stopWatching := context.WithCancel(context.Background())
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stopWatching()
	watchers.Go(func() { w.decode(watching) })
	watchers.Go(func() { w.sampleLeaders(watching) })
	watchers.Go(func() { w.listen(watching) })

	for i := range 3 {
		w.workers = append(w.workers, newWorker(w, i))
	}
	defer func() {
		for _, p := range w.workers {
			p.end()
		}
	}()
	// At once: one of them seeds.
	for _, p := range w.workers {
		p.launch()
	}
	w.eventually(2*time.Minute, "all workers are ready", func() bool { return w.allReady() == "" && w.stored() })

	writing, stopWriting := context.WithTimeout(context.Background(), length)
	var writers sync.WaitGroup
	for i, ops := range w.schedule.ops {
		writers.Go(func() { w.write(writing, i, ops) })
	}
	writers.Go(func() { w.sinks.fail(writing, w.schedule.moments) })
	writers.Go(func() { w.operator(writing, w.schedule.asked) })
	writers.Go(func() { w.moveSides(writing, w.schedule.moves) })
	w.nemesis(writing)
	<-writing.Done()
	stopWriting()
	writers.Wait()

	r := report{Seed: seed, Source: source, Length: length.String(), ShortLimits: w.schedule.short, AlertAfter: w.schedule.alertAfter.String()}
	settled := w.settle("the last fault", func() bool { return true })
	r.Convergence = settled
	// A start seeds what was deleted, and the leader, another one, has to hear of it.
	if settled != "" && w.remove("alpha") == nil && w.settle("a delete", func() bool { return len(w.checker.unseeded()) > 0 }) != "" && w.standby().signal(syscall.SIGTERM, true) {
		w.settle("a start", func() bool { return len(w.checker.unseeded()) == 0 })
	}
	// Nothing may come after all that was due.
	time.Sleep(2 * time.Second)
	w.settle("all else", func() bool { return true })
	for _, p := range w.workers {
		p.stopInOrder()
	}
	w.drain()
	time.Sleep(300 * time.Millisecond)
	stopWatching()
	watchers.Wait()

	w.finish(&r)
	for _, v := range r.Violations {
		t.Errorf("seed %d, %s: %s", seed, source, v)
	}
	return r
}

// finish makes all checks that are made once at the end.
func (w *world) finish(r *report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.checker
	c.finish()
	w.found = append(w.found, c.violations...)
	w.found = append(w.found, c.checkNotices(w.epochs)...)
	w.found = append(w.found, w.leaders.violations...)
	w.found = append(w.found, w.leaders.interlopers(c.alerts, w.authors)...)
	announced, caused := 0, w.dropped
	for _, reset := range c.resets {
		if reset.announce {
			announced++
			if c.hasCause(reset) {
				caused++
			}
		}
	}
	if w.source == "wal" && announced > caused {
		w.found = append(w.found, violation{Rule: ruleGapCause, Detail: fmt.Sprintf("%d gaps after %d slots were dropped: %v", announced, w.dropped, c.resets)})
	}
	if failovers := w.faults["switch-over"] + w.faults["fail-over"]; c.rewinds > failovers {
		w.found = append(w.found, violation{Rule: ruleRewind, Detail: fmt.Sprintf("%d rewinds after %d failovers", c.rewinds, failovers)})
	}
	w.checkHistory()
	w.checkSinks(r)
	w.searchForSecrets()
	r.Commits, r.Refused, r.Unknown, r.Seeds, r.Transactions = w.commits, w.refused, w.unknown, c.seeds, c.transactions
	r.Applies, r.Applied = c.applies, c.updates
	r.Pruned, r.Silenced, r.Repeated = c.pruning.rows, c.silences.silenced, c.silences.repeated
	r.Unalerted = bytes.Count(w.emitted.Bytes(), []byte("pending drift has ended, not alerted"))
	r.Alerts, r.AuditEntries, r.Leaders, r.Starts = len(c.alerts), len(c.delivered), len(w.leaders.holdings), w.starts
	r.Faults, r.Skipped, r.Gaps, r.SlotsKept, r.Violations = maps.Clone(w.faults), w.skipped, announced, w.kept, w.found
}

// checkHistory compares what was decoded with the history table: each
// transaction of a writer's put a row there, so that the outcome of a commit
// whose answer was lost is known.
func (w *world) checkHistory() {
	conn, err := pgx.Connect(context.Background(), w.url())
	require.NoError(w.t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(context.Background(), "SELECT id::text FROM soak.history")
	require.NoError(w.t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	for _, id := range ids {
		if !w.checker.labels[id] {
			w.found = append(w.found, violation{Rule: ruleHistory, Detail: "transaction " + id + " was not decoded"})
		}
	}
	for id := range w.finished {
		if !slices.Contains(ids, id) {
			w.found = append(w.found, violation{Rule: ruleHistory, Detail: "transaction " + id + " was acknowledged and is gone"})
		}
	}
	if len(ids) != len(w.checker.labels) {
		w.found = append(w.found, violation{Rule: ruleHistory, Detail: fmt.Sprintf("%d transactions were decoded and %d written", len(w.checker.labels), len(ids))})
	}
	tables, err := conn.Query(context.Background(), `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'provwatch'`)
	require.NoError(w.t, err)
	names, err := pgx.CollectRows(tables, pgx.RowTo[string])
	require.NoError(w.t, err)
	for _, name := range names {
		rows, err := conn.Query(context.Background(), "SELECT to_jsonb(r)::text FROM "+name+" r")
		require.NoError(w.t, err)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(w.t, err)
		for _, text := range texts {
			w.emitted.WriteString(text + "\n")
		}
	}
}

// secretMark is in every secret that a writer makes up.
const secretMark = "S3CR3T"

func (w *world) searchForSecrets() {
	secrets := []string{movingProvider().keys[0], secretMark, firstKey.Text(), secondKey.Text(), lentKey.Text(), foreignKey.Text()}
	for _, group := range w.groups {
		for _, p := range group {
			secrets = append(secrets, p.keys...)
			if p.accessKey != "" {
				secrets = append(secrets, p.accessKey, p.accessKeySecret)
			}
		}
	}
	for _, secret := range secrets {
		if at := bytes.Index(w.emitted.Bytes(), []byte(secret)); at >= 0 {
			w.found = append(w.found, violation{Rule: ruleSecret, Detail: string(w.emitted.Bytes()[max(0, at-200):min(w.emitted.Len(), at+40)])})
		}
	}
}

func (w *world) violate(rule, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = append(w.found, violation{Rule: rule, Detail: fmt.Sprintf(format, args...)})
}

func (w *world) eventually(within time.Duration, what string, condition func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(within); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// prepare makes the history table, ballast for the WAL, and the slot by which
// the history is decoded, before there is anything else.
func (w *world) prepare() {
	conn, err := pgx.Connect(w.t.Context(), w.url())
	require.NoError(w.t, err)
	// A queue that a flood fills, where the server lets its size be set.
	var fillable bool
	if conn.QueryRow(w.t.Context(), "SELECT true FROM pg_settings WHERE name = 'max_notify_queue_pages'").Scan(&fillable) == nil {
		_, err := conn.Exec(w.t.Context(), "ALTER SYSTEM SET max_notify_queue_pages = 64")
		require.NoError(w.t, err)
		w.cluster.Restart(w.t, "fast")
		conn, err = pgx.Connect(w.t.Context(), w.url())
		require.NoError(w.t, err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	pgtest.CreateGatewayTables(w.t, w.url())
	for _, sql := range []string{
		"CREATE SCHEMA soak",
		"CREATE TABLE soak.history (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id uuid NOT NULL UNIQUE, op text NOT NULL, providers text NOT NULL)",
		"CREATE TABLE soak.ballast AS SELECT n, repeat(md5(n::text), 20) AS text FROM generate_series(1, 30000) n",
		"CREATE INDEX ballast_idx ON soak.ballast (text)",
		"SELECT pg_create_logical_replication_slot('soak_history', 'test_decoding')",
	} {
		_, err := conn.Exec(w.t.Context(), sql)
		require.NoError(w.t, err, sql)
	}
	dbcrypttest.Register(w.t, conn, firstKey, secondKey, lentKey, foreignKey)
	// The model has to know the key of digests, which a migration makes up.
	config, err := postgres.ParseURL(w.url())
	require.NoError(w.t, err)
	_, _, err = schema.Migrate(w.t.Context(), config.ConnConfig, schema.Needs{})
	require.NoError(w.t, err)
	_, err = conn.Exec(w.t.Context(), "UPDATE provwatch.hash_key SET key = $1", []byte(hashKey))
	require.NoError(w.t, err)
}

// url returns the URL of the database.
func (w *world) url() string { return *w.address.Load() }

// pause waits, or returns false when ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func uuidOf(r *rand.Rand) string {
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.Uint32()&0xffff, r.Uint32()&0xfff, r.Uint32()&0xfff, r.Uint64()&0xffffffffffff)
}
