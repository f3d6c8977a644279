//go:build bench

// Package bench measures what the worker costs and how fast it is: real
// processes on a real PostgreSQL of its own. docs/benchmarks.md says how to run
// it and what came out.
package bench

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/embedded"
	"provwatch/internal/pgtest"
)

var (
	fsync     = flag.String("fsync", "on", "the server's fsync, on or off")
	providers = flag.Int("providers", 200, "rows of ai_providers, all named in the environment")
	rounds    = flag.Int("rounds", 10, "Writers: rounds, each with one slice for each arm")
	slice     = flag.Duration("slice", time.Second, "Writers: length of a slice")
	writers   = flag.Int("writers", 4, "Writers: concurrent writers")
	pace      = flag.Float64("pace", 0, "Writers: transactions per second of all writers together, 0 for as many as they can")
	which     = flag.String("arms", "a,a2,b,b0,c,c0", "Writers: the arms")
	calm      = flag.Float64("calm", 0.3, "Writers: a slice during which others used more processors than this is repeated, and does not count")
	waiting   = flag.Duration("waiting", 5*time.Minute, "Writers: how long the run may take longer for the machine to be calm")

	costRounds = flag.Int("cost-rounds", 150, "Cost: rounds, each with one turn for each arm")
	turns      = flag.Duration("turn", 60*time.Millisecond, "Cost: length of a turn")

	failovers = flag.Int("failovers", 25, "Failover: repetitions for each way and source")
	alerts    = flag.Int("alerts", 400, "Latency: changes for each arm")

	results = flag.String("results", "results", "folder that results are written to as JSON, one file for each benchmark")
	profile = flag.String("profile", "", "folder for processor profiles of what Seed, Sustained and Full measure, each of a run more that does not count")
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

var (
	binary string
	server *cluster
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "provwatch-bench-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "worker")
	if out, err := exec.Command("go", "build", "-o", binary, "provwatch/cmd/worker").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the worker: %v\n%s", err, out)
		return 1
	}
	if server, err = startCluster(nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.stop()
	fmt.Printf("%s, %s, %d CPUs, %s/%s; fsync=%s, wal_level=logical\n", server.version, runtime.Version(), runtime.NumCPU(),
		runtime.GOOS, runtime.GOARCH, *fsync)
	return m.Run()
}

// cluster is the server that all benchmarks of a run share. pgtest's has fsync
// off, which is not to be switched on later.
type cluster struct {
	base       *pgx.ConnConfig
	version    string
	log        string // path of the server's log
	postmaster int
	undertaker *exec.Cmd
	bell       io.Closer
}

// undertakerScript stops the server and removes its folder when this process
// ends, whichever way.
const undertakerScript = `
cat >/dev/null
pid=$(head -n 1 "$1/data/pgdata/postmaster.pid" 2>/dev/null) &&
	while kill -QUIT "$pid" 2>/dev/null; do sleep 0.1; done
rm -rf "$1"`

// startCluster starts a server, with settings beside the usual ones or in their place.
func startCluster(others map[string]string) (_ *cluster, err error) {
	dir, err := os.MkdirTemp("", "provwatch-bench-pg-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	c := &cluster{undertaker: exec.Command("/bin/sh", "-c", undertakerScript, "sh", dir)}
	c.undertaker.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.bell, err = c.undertaker.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.undertaker.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	settings := map[string]string{
		"fsync": *fsync, "full_page_writes": *fsync,
		"wal_level": "logical", "max_connections": "200", "max_replication_slots": "40", "max_wal_senders": "40",
		// What runs at times of its own would hit one arm and not the other:
		// each slice begins with a VACUUM and a checkpoint instead.
		"autovacuum": "off", "checkpoint_timeout": "1h", "max_wal_size": "8GB",
		"log_line_prefix": "%q%d %a: ",
	}
	maps.Copy(settings, others)
	started, err := embedded.Start(ctx, embedded.Options{
		DataDir: filepath.Join(dir, "data"), BinDir: pgtest.BinDir(),
		Settings: settings,
	})
	if err != nil {
		return nil, err
	}
	if c.base, err = pgx.ParseConfig(started.ConnString()); err != nil {
		return nil, err
	}
	pid, err := os.ReadFile(filepath.Join(dir, "data", "pgdata", "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	c.log = filepath.Join(dir, "data", "postgres.log")
	line, _, _ := strings.Cut(string(pid), "\n")
	if c.postmaster, err = strconv.Atoi(line); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, c.base)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	return c, conn.QueryRow(ctx, "SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)").Scan(&c.version)
}

func (c *cluster) stop() {
	_ = c.bell.Close()
	_ = c.undertaker.Wait()
}

// database is one arm's database.
type database struct {
	b    *testing.B
	name string
	conn *pgx.Conn
	ids  []string
}

func providerName(i int) string { return fmt.Sprintf("provider-%d", i) }
func providerURL(i int) string  { return fmt.Sprintf("https://provider-%d.example/v1/", i) }
func driftedURL(i int) string   { return fmt.Sprintf("https://drifted-%d.example/v1/", i) }

// newDatabase makes a database with the providers seeded and source installed,
// and no worker running; with source "" with the tables and nothing else of
// provwatch's.
func newDatabase(b *testing.B, name, source string) *database {
	b.Helper()
	ctx := context.Background()
	d := emptyDatabase(b, name)
	install := source
	if source == "" {
		install = "notify"
	}
	d.start(install).ready().end(syscall.SIGTERM)
	if source == "" {
		execute(b, d.conn, "DROP SCHEMA provwatch CASCADE")
	}
	// Room for new versions on each page, or chance decides which arm's updates
	// have to touch the indexes.
	execute(b, d.conn, "ALTER TABLE ai_providers SET (fillfactor = 10)")
	execute(b, d.conn, "VACUUM FULL ai_providers")
	rows, err := d.conn.Query(ctx, "SELECT id::text FROM ai_providers ORDER BY substr(name, 10)::int")
	if err != nil {
		b.Fatal(err)
	}
	if d.ids, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		b.Fatal(err)
	}

	// The arms are what they are said to be.
	want := map[string]string{"": "0 triggers, 0 publications, 0 slots", "notify": "8 triggers, 0 publications, 0 slots", "wal": "0 triggers, 1 publications, 1 slots"}[source]
	var have string
	if err := d.conn.QueryRow(ctx, `SELECT format('%s triggers, %s publications, %s slots',
		(SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'), (SELECT count(*) FROM pg_publication),
		(SELECT count(*) FROM pg_replication_slots WHERE database = current_database()))`).Scan(&have); err != nil {
		b.Fatal(err)
	}
	if have != want || len(d.ids) != *providers {
		b.Fatalf("database %s has %s and %d providers, want %s and %d", name, have, len(d.ids), want, *providers)
	}
	return d
}

// emptyDatabase makes a database without any table, which is dropped at the end
// of the benchmark.
func emptyDatabase(b *testing.B, name string) *database {
	b.Helper()
	ctx := context.Background()
	d := &database{b: b, name: name}
	admin := connect(b, "postgres")
	execute(b, admin, "CREATE DATABASE "+name)
	d.conn = connect(b, name)
	b.Cleanup(func() {
		_ = d.conn.Close(ctx)
		execute(b, admin, "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE database = '"+name+"' AND active")
		execute(b, admin, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '"+name+"'")
		execute(b, admin, "DROP DATABASE "+name+" WITH (FORCE)")
		_ = admin.Close(ctx)
	})
	return d
}

func connect(b *testing.B, name string) *pgx.Conn {
	b.Helper()
	config := server.base.Copy()
	config.Database = name
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

func execute(b *testing.B, conn *pgx.Conn, sql string, args ...any) {
	b.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		b.Fatal(err)
	}
}

// toggle is an update of a field that the canonical hash has: $1 is the id, $2
// and $3 are the URLs.
const toggle = `UPDATE ai_providers SET base_url = CASE base_url WHEN $2 THEN $3 ELSE $2 END, updated_at = now() WHERE id = $1`

// toggle changes the base URL of a provider back and forth.
func (d *database) toggle(i int) {
	d.b.Helper()
	execute(d.b, d.conn, toggle, d.ids[i], providerURL(i), driftedURL(i))
}

// arrival is a notification and when it came.
type arrival struct {
	at      time.Time
	payload string
}

// listen returns what arrives on the channel from now on, until the benchmark
// ends. All that arrives is taken, whether or not anybody asks for it: a server's
// process that cannot send what it has would hold up DROP DATABASE of others.
func (d *database) listen(channel string) <-chan arrival {
	d.b.Helper()
	conn := connect(d.b, d.name)
	execute(d.b, conn, "LISTEN "+channel)
	received, arrivals := make(chan arrival), make(chan arrival)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		defer close(received)
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			received <- arrival{time.Now(), n.Payload}
		}
	})
	done.Go(func() {
		var waiting []arrival
		for {
			var next arrival
			var out chan arrival // nil while nothing waits
			if len(waiting) > 0 {
				next, out = waiting[0], arrivals
			}
			select {
			case a, more := <-received:
				if !more {
					return
				}
				waiting = append(waiting, a)
			case out <- next:
				waiting = waiting[1:]
			}
		}
	})
	d.b.Cleanup(func() {
		cancel()
		done.Wait()
		_ = conn.Close(context.Background())
	})
	return arrivals
}

// drain drops what has arrived, until nothing more comes for a moment.
func drain(arrivals <-chan arrival) {
	for {
		select {
		case <-arrivals:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// await waits for a payload that contains the text.
func await(b *testing.B, arrivals <-chan arrival, text string) time.Time {
	b.Helper()
	timeout := time.After(patience)
	for {
		select {
		case a := <-arrivals:
			if strings.Contains(a.payload, text) {
				return a.at
			}
		case <-timeout:
			b.Fatalf("nothing with %q arrived within %s", text, patience)
		}
	}
}

// worker is a running "worker run".
type worker struct {
	b       *testing.B
	command *exec.Cmd
	log     string // path of what it logs
	ended   chan struct{}
}

func (w *worker) text() string {
	text, err := os.ReadFile(w.log)
	if err != nil {
		w.b.Fatal(err)
	}
	return string(text)
}

func (w *worker) logged(text string) bool { return strings.Contains(w.text(), text) }

// at returns the time of the first line of its log that contains the text, to
// the millisecond.
func (w *worker) at(text string) time.Time {
	w.b.Helper()
	for line := range strings.Lines(w.text()) {
		if stamp, ok := strings.CutPrefix(line, "time="); ok && strings.Contains(line, text) {
			stamp, _, _ = strings.Cut(stamp, " ")
			at, err := time.Parse(time.RFC3339Nano, stamp)
			if err != nil {
				w.b.Fatal(err)
			}
			return at
		}
	}
	w.b.Fatalf("the worker did not log %q:\n%s", text, w.text())
	return time.Time{}
}

// start starts a worker for the providers of the database.
func (d *database) start(source string) *worker {
	d.b.Helper()
	var env []string
	for i := range *providers {
		for field, value := range map[string]string{"TYPE": "openai", "NAME": providerName(i), "BASE_URL": providerURL(i), "KEY": "sk-bench-0123456789"} {
			env = append(env, fmt.Sprintf("CODER_AIBRIDGE_PROVIDER_%d_%s=%s", i, field, value))
		}
	}
	return d.launch(env, "--source="+source)
}

// launch starts a worker. Its log goes to a file, so that this process does not
// work while the worker logs.
func (d *database) launch(env []string, args ...string) *worker {
	d.b.Helper()
	return launch(d.b, append([]string{"DATABASE_URL=" + d.dsn()}, env...), args...)
}

func launch(b *testing.B, env []string, args ...string) *worker {
	b.Helper()
	log, err := os.CreateTemp(filepath.Dir(binary), "worker-*.log")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	w := &worker{b: b, log: log.Name(), ended: make(chan struct{}), command: exec.Command(binary, append([]string{"run", "--on-boot-drift=alert"}, args...)...)}
	w.command.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	w.command.Stderr = log
	if err := w.command.Start(); err != nil {
		b.Fatal(err)
	}
	go func() {
		defer close(w.ended)
		_ = w.command.Wait()
	}()
	b.Cleanup(func() {
		_ = w.command.Process.Kill()
		<-w.ended
	})
	return w
}

// dsn returns how to connect to the database, as libpq's keywords.
func (d *database) dsn() string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", server.base.Host, server.base.Port, server.base.User, d.name)
}

// waitFor waits for a text in the worker's log.
func (w *worker) waitFor(text string) *worker {
	w.b.Helper()
	return w.waitLonger(text, patience)
}

func (w *worker) waitLonger(text string, limit time.Duration) *worker {
	w.b.Helper()
	for deadline := time.Now().Add(limit); !w.logged(text); time.Sleep(2 * time.Millisecond) {
		select {
		case <-w.ended:
			w.b.Fatalf("the worker ended:\n%s", w.text())
		default:
		}
		if time.Now().After(deadline) {
			w.b.Fatalf("the worker did not log %q within %s:\n%s", text, limit, w.text())
		}
	}
	return w
}

// ready waits until the worker has verified everything once; by the WAL this
// means that it has read all there was.
func (w *worker) ready() *worker { return w.waitFor("msg=ready") }

// end ends the worker and waits for its end.
func (w *worker) end(s syscall.Signal) {
	w.b.Helper()
	if err := w.command.Process.Signal(s); err != nil {
		w.b.Fatal(err)
	}
	select {
	case <-w.ended:
	case <-time.After(patience):
		w.b.Fatalf("the worker did not end within %s", patience)
	}
}

// quantile returns the q-th quantile of a sorted list, by the nearest rank.
func quantile[T any](sorted []T, q float64) T {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// middle formats a list as its median and quartiles.
func middle(format string, list []float64) string {
	if len(list) == 0 {
		return "–"
	}
	if len(list) == 1 {
		return fmt.Sprintf(format, list[0])
	}
	s := slices.Sorted(slices.Values(list))
	return fmt.Sprintf(format+" ["+format+" … "+format+"]", median(s), quantile(s, 0.25), quantile(s, 0.75))
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }

// row prints a row of a Markdown table.
func row(cells ...any) {
	var texts []string
	for _, c := range cells {
		texts = append(texts, fmt.Sprint(c))
	}
	fmt.Println("| " + strings.Join(texts, " | ") + " |")
}

func header(cells ...any) {
	row(cells...)
	fmt.Println(strings.Repeat("|---", len(cells)) + "|")
}

// ticks is the processor time of a process in hundredths of a second, all zero
// where there is no /proc.
type ticks struct {
	ppid int
	used float64
}

func readTicks(pid int) (ticks, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ticks{}, err
	}
	_, rest, found := bytes.Cut(text, []byte(") "))
	fields := strings.Fields(string(rest))
	if !found || len(fields) < 13 {
		return ticks{}, errors.New("unknown form of /proc/…/stat")
	}
	number := func(i int) float64 { f, _ := strconv.ParseFloat(fields[i], 64); return f }
	return ticks{ppid: int(number(1)), used: number(11) + number(12)}, nil
}

// usage is the processor time that was used up to now.
type usage struct {
	at     time.Time
	pids   map[int]float64 // of ours: this process, the server's, the workers'
	all    float64         // of the machine
	parent map[int]int
}

func readUsage() usage {
	u := usage{at: time.Now(), pids: map[int]float64{}, parent: map[int]int{}}
	entries, _ := os.ReadDir("/proc")
	self := os.Getpid()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if t, err := readTicks(pid); err == nil && (pid == self || pid == server.postmaster || t.ppid == self || t.ppid == server.postmaster) {
			u.pids[pid], u.parent[pid] = t.used, t.ppid
		}
	}
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line) {
		// user, nice, system, irq, softirq, steal; not idle, iowait and guest.
		if i == 1 || i == 2 || i == 3 || i >= 6 && i <= 8 {
			f, _ := strconv.ParseFloat(field, 64)
			u.all += f
		}
	}
	return u
}

// foreign returns how many processors something else than the benchmark has
// used since the earlier reading.
func (u usage) foreign(before usage) float64 {
	used := u.all - before.all
	for pid, t := range u.pids {
		used -= t - before.pids[pid]
	}
	return max(0, used/100/u.at.Sub(before.at).Seconds())
}

// cores returns how many processors some processes have used since the earlier
// reading.
func (u usage) cores(before usage, pids ...int) float64 {
	used := 0.0
	for _, pid := range pids {
		used += u.pids[pid] - before.pids[pid]
	}
	return used / 100 / u.at.Sub(before.at).Seconds()
}
