//go:build soak

package soak

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	leaders  leaderWatch
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
	w.checker.real = w.real
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
	w.nemesis(writing)
	<-writing.Done()
	stopWriting()
	writers.Wait()

	r := report{Seed: seed, Source: source, Length: length.String(), ShortLimits: w.schedule.short}
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

// settle waits until everything is as it should be, and also holds, and returns how long it took,
// empty when it took too long.
func (w *world) settle(after string, also func() bool) string {
	began := time.Now()
	for why, said := "", ""; ; time.Sleep(200 * time.Millisecond) {
		if why = w.unsettled(also); *keep != "" && why != said {
			fmt.Printf("%s soak %s: %s\n", time.Now().Format("15:04:05.000"), w.source, why)
			said = why
		}
		if why == "" {
			return time.Since(began).Round(100 * time.Millisecond).String()
		}
		if time.Since(began) > settleTime {
			w.violate(ruleConverge, "%s after %s: %s", settleTime, after, why)
			return ""
		}
	}
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
	secrets := []string{secretMark, firstKey.Text(), secondKey.Text(), lentKey.Text(), foreignKey.Text()}
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

// variables are what changes of the environment file.
type variables struct {
	mu      sync.Mutex
	late    bool // it names the late providers
	swapped bool // the second key comes before the first
	lent    int  // the place of the lent key among the keys, from 1; 0 where it is not there
}

// keys returns the keys in the order of the file.
func (v *variables) keys() []dbcrypttest.Key {
	keys := []dbcrypttest.Key{firstKey, secondKey}
	if v.swapped {
		slices.Reverse(keys)
	}
	if v.lent > 0 {
		keys = slices.Insert(keys, v.lent-1, lentKey)
	}
	return keys
}

// change changes the environment file, by do.
func (w *world) change(do func(*variables)) {
	w.variables.mu.Lock()
	do(&w.variables)
	w.variables.mu.Unlock()
	w.writeEnvFile()
}

// writeEnvFile writes the environment file.
func (w *world) writeEnvFile() {
	v := &w.variables
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	var texts []string
	for _, key := range v.keys() {
		texts = append(texts, key.Text())
	}
	fmt.Fprintf(&b, "CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS='%s'\n", strings.Join(texts, ","))
	n := 0
	for _, group := range w.groups {
		for _, p := range group {
			if p.late && !v.late {
				continue
			}
			set := func(field, value string) {
				if value != "" {
					fmt.Fprintf(&b, "CODER_AIBRIDGE_PROVIDER_%d_%s='%s'\n", n, field, value)
				}
			}
			set("TYPE", p.kind)
			set("NAME", p.name)
			set("BASE_URL", p.baseURL)
			set("KEYS", strings.Join(p.keys, ","))
			set("BEDROCK_REGION", p.region)
			set("BEDROCK_ACCESS_KEY", p.accessKey)
			set("BEDROCK_ACCESS_KEY_SECRET", p.accessKeySecret)
			n++
		}
	}
	next := w.envFile + ".next"
	require.NoError(w.t, os.WriteFile(next, []byte(b.String()), 0o600))
	require.NoError(w.t, os.Rename(next, w.envFile))
}

func (w *world) allReady() string {
	for _, p := range w.workers {
		if err := p.ready(); err != nil {
			return fmt.Sprintf("worker %d: %v", p.index, err)
		}
	}
	return ""
}

// stored says whether a state is recorded of every provider that is named.
func (w *world) stored() bool {
	recorded := w.recorded()
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, p := range w.checker.tracks {
		if p.named && recorded[name] == "" {
			return false
		}
	}
	return true
}

// recorded reads the kind recorded of each provider; nil when it cannot.
func (w *world) recorded() map[string]string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url())
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT provider, kind FROM provwatch.drift_state")
	if err != nil {
		return nil
	}
	kinds := map[string]string{}
	var name, kind string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		kinds[name] = kind
		return nil
	}); err != nil {
		return nil
	}
	return kinds
}

// notCompared reads which providers are listed as those that cannot be compared; nil
// when it cannot.
func (w *world) notCompared() map[string]bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url())
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT provider FROM provwatch.not_comparable WHERE reason <> ''")
	if err != nil {
		return nil
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil
	}
	listed := map[string]bool{}
	for _, name := range names {
		listed[name] = true
	}
	return listed
}

// unsettled says what is not yet as it should be, empty when all is.
func (w *world) unsettled(also func() bool) string {
	if why := w.allReady(); why != "" {
		return why
	}
	if why := w.sinksBehind(); why != "" {
		return why
	}
	recorded, notCompared := w.recorded(), w.notCompared()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !also() {
		return "what was written or seeded is not there"
	}
	if waiting := w.checker.settled(); len(waiting) > 0 {
		return strings.Join(waiting, "; ")
	}
	for name, p := range w.checker.tracks {
		now := p.now().kind
		switch {
		case !p.named:
		case (now == notComparable) != notCompared[name]:
			return fmt.Sprintf("%s is %s, and listed among those that cannot be compared: %t", name, now, notCompared[name])
		case now != notComparable && recorded[name] != now, now == notComparable && recorded[name] != p.recorded.kind:
			return fmt.Sprintf("%s is %s and recorded as %q", name, now, recorded[name])
		}
	}
	return ""
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

// settled says of which providers something is left to be alerted.
func (c *checker) settled() (waiting []string) {
	for _, name := range slices.Sorted(maps.Keys(c.tracks)) {
		p := c.tracks[name]
		if p.named && p.now().kind != notComparable && !sameDrift(p.recorded, p.now()) {
			waiting = append(waiting, fmt.Sprintf("%s is %s and was last alerted as %s", name, p.now(), p.recorded))
		}
	}
	if len(c.staged) > 0 {
		waiting = append(waiting, fmt.Sprintf("%d audit entries in the outbox", len(c.staged)))
	}
	return waiting
}
