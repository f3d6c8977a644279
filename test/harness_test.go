//go:build e2e

// Package test drives the built worker from outside, as an operator would: real
// processes, real signals, a real PostgreSQL.
package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/waittest"
)

// patience bounds every wait for an event, see [waittest.Patience].
const patience = waittest.Patience

// workerBinary is the worker, built with the race detector.
var workerBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "provwatch-test-")
	if err != nil {
		panic(err)
	}
	// Other users, such as the one that PostgreSQL runs as, start it too.
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	workerBinary = filepath.Join(dir, "worker")
	build := exec.Command("go", "build", "-race", "-ldflags=-X main.version=test -X main.commit=0123abc", "-o", workerBinary, "provwatch/cmd/worker")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the worker: %v\n%s", err, out)
		os.Exit(1)
	}
	code := pgtest.Run(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// world is one test's database, the workers that it starts, and everything that
// they emit.
type world struct {
	t *testing.T
	// url and db are the owner's, a superuser's: the test looks and changes by them.
	url string
	db  *pgx.Conn
	// source is the --source of the test's workers; empty for the default.
	source string
	// login is the role that each command connects as, empty where all of them do
	// as the owner.
	login map[string]string
	// server is the folder of the database's server, and logged how much its log held
	// before the test. allLogged says that it logs each statement.
	server    string
	logged    int64
	allLogged bool

	mu      sync.Mutex
	emitted bytes.Buffer // all output of all workers, and all payloads
	secrets []string
	notes   map[pubsub.Channel][]string
}

// newWorld gives the test a database with the gateway's tables and the rows of
// [pgtest.GatewayProviders], which the environment does not name. Its owner has migrated
// it for the WAL. The test listens on every channel that a worker publishes on.
// Commands connect as roles that have what sql/roles.sql grants and nothing more. At the
// end of the test, everything that was emitted or stored by provwatch is searched for the
// secrets that it was given.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, "")
}

// newWorldOf is newWorld for workers of one source.
func newWorldOf(t *testing.T, source string) *world {
	t.Helper()
	url := pgtest.NewDatabaseFrom(t, "world_"+source, func(url string) error {
		return errors.Join(pgtest.FillWithGatewayTables(url), pgtest.InsertGatewayProviders(url, pgtest.GatewayProviders()), migrateAndGrant(url, source))
	})
	w := newPreparedWorldOn(t, url, source)
	for _, secret := range []string{pgtest.GatewayAccessKey, pgtest.GatewayAccessKeySecret, pgtest.GatewayAPIKey} {
		w.secret(secret)
	}
	return w
}

// newWorldWithoutRows is newWorldOf whose tables are empty, for tests that look at all
// rows.
func newWorldWithoutRows(t *testing.T, source string) *world {
	t.Helper()
	url := pgtest.NewDatabaseFrom(t, "empty_world_"+source, func(url string) error {
		return errors.Join(pgtest.FillWithGatewayTables(url), migrateAndGrant(url, source))
	})
	return newPreparedWorldOn(t, url, source)
}

// newWorldOn is newWorldWithoutRows on a database that the test has created.
func newWorldOn(t *testing.T, url, source string) *world {
	t.Helper()
	pgtest.CreateGatewayTables(t, url)
	require.NoError(t, migrateAndGrant(url, source))
	return newPreparedWorldOn(t, url, source)
}

// newBareWorld is newWorldOf with the two tables that provwatch makes by itself where
// there is no gateway, and their two types: for tests of what depends on them.
func newBareWorld(t *testing.T, source string) *world {
	t.Helper()
	url := pgtest.NewDatabaseFrom(t, "bare_world_"+source, func(url string) error { return migrateAndGrant(url, source) })
	return newPreparedWorldOn(t, url, source)
}

// newPreparedWorldOn is a world on a database of [migrateAndGrant].
func newPreparedWorldOn(t *testing.T, url, source string) *world {
	t.Helper()
	w := newEmptyWorldOn(t, url)
	w.source = source
	w.logInAsRoles()
	return w
}

// prepare is [migrateAndGrant] of the world's database, whose commands connect as roles
// of their own from then on.
func (w *world) prepare() {
	w.t.Helper()
	require.NoError(w.t, migrateAndGrant(w.url, w.source))
	w.logInAsRoles()
}

// logInAsRoles makes each command connect as the role that it is for.
func (w *world) logInAsRoles() {
	w.t.Helper()
	for _, group := range []string{"notify", "operator", "reader"} {
		w.createRole("test_"+group, "IN ROLE provwatch_"+group)
	}
	w.createRole("test_wal", "REPLICATION IN ROLE provwatch_wal")
	worker := "test_wal"
	if w.source == "notify" {
		worker = "test_notify"
	}
	w.login = map[string]string{"run": worker, "seed": worker, "verify": worker, "resolve": "test_operator", "watch": "test_reader", "status": "test_reader"}
}

// newOwnerWorld is newWorld before anybody has migrated it, where commands connect as
// the owner: for tests of what only an owner may do beside the gateway.
func newOwnerWorld(t *testing.T) *world {
	t.Helper()
	return newEmptyWorldOn(t, pgtest.NewGatewayDatabase(t))
}

// newEmptyWorld is newOwnerWorld with an empty database: for tests of the tables that
// provwatch makes by itself, and of commands that need none.
func newEmptyWorld(t *testing.T) *world {
	t.Helper()
	return newEmptyWorldOn(t, pgtest.NewDatabase(t))
}

func newEmptyWorldOn(t *testing.T, url string) *world {
	t.Helper()
	w := &world{t: t, url: url, notes: map[pubsub.Channel][]string{}}
	w.db = w.connect()
	w.findServer()
	// Of each session of the test, and so of all that a worker sends.
	w.allLogged = true
	w.exec("ALTER DATABASE " + pgx.Identifier{w.db.Config().Database}.Sanitize() + " SET log_statement = 'all'")
	w.listen()
	t.Cleanup(w.searchForSecrets)
	return w
}

// findServer finds the folder of the database's server, and makes secrets of the
// passwords by which workers connect.
func (w *world) findServer() {
	w.t.Helper()
	w.server = filepath.Dir(w.strings("SHOW data_directory")[0])
	log, err := os.Stat(filepath.Join(w.server, "postgres.log"))
	require.NoError(w.t, err)
	w.logged = log.Size()
	w.secret(w.ownerPassword())
	w.secret(passwordMark)
}

// ownerPassword returns the password of the databases' owner.
func (w *world) ownerPassword() string {
	w.t.Helper()
	password, err := os.ReadFile(filepath.Join(w.server, "password"))
	require.NoError(w.t, err)
	return strings.TrimSpace(string(password))
}

// passwordMark is in the password of each role of [world.createRole], with characters beside
// that are escaped in a URL.
const passwordMark = "S3cretQz7vLk9x"

func passwordOf(role string) string { return "/@?#% '" + passwordMark + "-" + role }

// createRole creates a role that logs in by [passwordOf], unless another test has: it
// is the cluster's, which all databases share and which goes with its tests.
func (w *world) createRole(name, attributes string) {
	w.t.Helper()
	conn := w.connect()
	for _, statement := range []string{
		"SET log_statement = none; SET log_min_error_statement = panic", // the next one has the password
		`DO $$ BEGIN
			CREATE ROLE ` + name + ` LOGIN PASSWORD '` + strings.ReplaceAll(passwordOf(name), "'", "''") + `' ` + attributes + `;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END $$`,
	} {
		_, err := conn.Exec(w.t.Context(), statement)
		require.NoError(w.t, err)
	}
	require.NoError(w.t, conn.Close(w.t.Context()))
}

// migrateAndGrant does what an administrator does for workers of a source that connect as
// roles of their own (docs/privileges.md).
func migrateAndGrant(databaseURL, source string) error {
	config, err := postgres.ParseURL(databaseURL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	needs := schema.Needs{Publication: true}
	switch source {
	case "notify":
		needs = schema.Needs{Triggers: true}
	case "auto":
		needs.Triggers = true
	}
	if _, _, err := schema.Migrate(ctx, config.ConnConfig, needs); err != nil {
		return err
	}
	script, err := os.ReadFile("../sql/roles.sql")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, string(script))
	return errors.Join(err, conn.Close(ctx))
}

// withPassword returns the database's URL by TCP, where the server asks for
// the password that the URL holds: of a role of [world.createRole], or of the owner.
func (w *world) withPassword(role string) string {
	w.t.Helper()
	config, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	password := passwordOf(role)
	if role == config.User {
		password = w.ownerPassword()
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password), Host: fmt.Sprintf("127.0.0.1:%d", config.Port),
		Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// as returns the database's URL for a role by a unix socket, where the server asks for
// no password.
func (w *world) as(role string) string {
	w.t.Helper()
	other := strings.Replace(w.url, "postgres://provwatch@", "postgres://"+role+"@", 1)
	require.NotEqual(w.t, w.url, other)
	return other
}

func (w *world) connect() *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// listen gathers payloads until the test ends.
func (w *world) listen() {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	require.NoError(w.t, err)
	for _, channel := range []pubsub.Channel{pubsub.DriftAlerts, pubsub.Seeds, pubsub.AuditEntries, pubsub.Statuses, pubsub.ProvidersChanged} {
		_, err := conn.Exec(w.t.Context(), "LISTEN "+string(channel))
		require.NoError(w.t, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.notes[pubsub.Channel(n.Channel)] = append(w.notes[pubsub.Channel(n.Channel)], n.Payload)
			if n.Channel != string(pubsub.ProvidersChanged) {
				fmt.Fprintln(&w.emitted, n.Payload)
			}
			w.mu.Unlock()
		}
	}()
	w.t.Cleanup(func() {
		cancel()
		<-done
		_ = conn.Close(context.Background())
	})
}

// payloads returns what was published on the channel so far.
func (w *world) payloads(channel pubsub.Channel) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.notes[channel])
}

// secret registers a value that nothing may emit, and returns it.
func (w *world) secret(value string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, value)
	return value
}

func (w *world) emit(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintln(&w.emitted, text)
}

func (w *world) searchForSecrets() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, w.url)
	if err != nil {
		w.t.Errorf("search provwatch's tables for secrets: %v", err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	tables, err := queryStrings(ctx, conn, `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'provwatch'`)
	if err != nil {
		w.t.Errorf("search provwatch's tables for secrets: %v", err)
		return
	}
	for _, table := range tables {
		rows, err := queryStrings(ctx, conn, "SELECT to_jsonb(r)::text FROM "+table+" r")
		if err != nil {
			w.t.Errorf("search %s for secrets: %v", table, err)
		}
		w.emit(strings.Join(rows, "\n"))
	}
	if w.server != "" { // the test has not started a server of its own
		w.searchServerLog()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range w.secrets {
		if at := bytes.Index(w.emitted.Bytes(), []byte(secret)); at >= 0 {
			from, to := max(0, at-80), min(w.emitted.Len(), at+len(secret)+20)
			w.t.Errorf("a secret was emitted: …%s…", w.emitted.Bytes()[from:to])
		}
	}
}

// searchServerLog searches what the server has logged during the test, of other tests
// too, for the passwords by which workers connect. API keys are parameters of
// statements, which it logs.
func (w *world) searchServerLog() {
	passwords := []string{w.ownerPassword(), passwordMark}
	log, err := os.Open(filepath.Join(w.server, "postgres.log"))
	if err == nil {
		_, err = log.Seek(w.logged, io.SeekStart)
	}
	if err != nil {
		w.t.Errorf("search the server's log for passwords: %v", err)
		return
	}
	defer func() { _ = log.Close() }()
	lines, statements := bufio.NewScanner(log), 0
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "statement: ") {
			statements++
		}
		for _, password := range passwords {
			if strings.Contains(lines.Text(), password) {
				w.t.Errorf("the server has logged a password: %s", lines.Text())
			}
		}
	}
	if err := lines.Err(); err != nil || w.allLogged && statements == 0 {
		w.t.Errorf("search the server's log for passwords: %d statements, %v", statements, err)
	}
}

func queryStrings(ctx context.Context, conn *pgx.Conn, query string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// strings returns the result of a query of one text column.
func (w *world) strings(query string, args ...any) []string {
	w.t.Helper()
	list, err := queryStrings(w.t.Context(), w.db, query, args...)
	require.NoError(w.t, err)
	return list
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), query, args...)
	require.NoError(w.t, err)
}

// count returns the result of a query of one number.
func (w *world) count(query string, args ...any) int {
	w.t.Helper()
	var n int
	require.NoError(w.t, w.db.QueryRow(w.t.Context(), query, args...).Scan(&n))
	return n
}

// eventually waits until the condition holds.
func eventually(t *testing.T, condition func() bool, message string, args ...any) {
	t.Helper()
	waittest.Until(t, condition, message, args...)
}

// raceOptions end a worker at its first race, without a pause at its end, and let the
// race detector use huge pages where the system has them: most of the time that a worker
// takes to start is for its memory.
const raceOptions = "GORACE=halt_on_error=1 atexit_sleep_ms=0 no_huge_pages_for_shadow=0"

// environ is a worker's environment, beside what every process needs.
type environ map[string]string

func (w *world) command(env environ, args ...string) *exec.Cmd {
	command := exec.Command(workerBinary, args...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir(), raceOptions}
	if _, set := env["DATABASE_URL"]; !set {
		role, name := "provwatch", "run"
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			name = args[0]
		}
		if w.login[name] != "" {
			role = w.login[name]
		}
		command.Env = append(command.Env, "DATABASE_URL="+w.withPassword(role))
	}
	if w.source != "" {
		command.Env = append(command.Env, "PROVWATCH_SOURCE="+w.source)
	}
	// What tests do to a database should not be waited for afterwards.
	command.Env = append(command.Env, "PROVWATCH_MAX_BACKOFF=1s")
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	return command
}

// result is what a command that has ended left.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a worker command to its end.
func (w *world) run(env environ, args ...string) result {
	w.t.Helper()
	command := w.command(env, args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	require.NoError(w.t, command.Start())
	timer := time.AfterFunc(patience, func() { _ = command.Process.Kill() })
	err := command.Wait()
	if !timer.Stop() {
		w.t.Fatalf("worker %s did not end within %s\n%s%s", strings.Join(args, " "), patience, &stdout, &stderr)
	}
	r := result{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	w.emit(r.stdout)
	w.emit(r.stderr)
	require.NotContains(w.t, r.stderr, "DATA RACE")
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(w.t, err, &exit)
	}
	return r
}

// worker is a running "worker run" or "worker watch".
type worker struct {
	w       *world
	command *exec.Cmd
	ended   chan struct{}

	mu  sync.Mutex
	log []string // lines of standard error
	out []string // lines of standard output
}

// start starts a worker command that goes on until it is stopped, at the latest
// at the end of the test.
func (w *world) start(env environ, args ...string) *worker {
	w.t.Helper()
	return w.startCommand(func(*exec.Cmd) {}, env, args...)
}

// startCommand is start of a command that is changed before.
func (w *world) startCommand(change func(*exec.Cmd), env environ, args ...string) *worker {
	w.t.Helper()
	p := &worker{w: w, command: w.command(env, args...), ended: make(chan struct{})}
	change(p.command)
	stderr, err := p.command.StderrPipe()
	require.NoError(w.t, err)
	stdout, err := p.command.StdoutPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, p.command.Start())
	var readers sync.WaitGroup
	readers.Go(func() { p.gather(stderr, &p.log) })
	readers.Go(func() { p.gather(stdout, &p.out) })
	go func() {
		defer close(p.ended)
		readers.Wait()
		_ = p.command.Wait()
	}()
	w.t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.ended
		log := strings.Join(p.lines(), "\n")
		if strings.Contains(log, "DATA RACE") {
			w.t.Error("the worker has a data race")
		}
		if w.t.Failed() {
			w.t.Logf("log of worker %s:\n%s", strings.Join(args, " "), log)
		}
	})
	return p
}

func (p *worker) gather(from io.Reader, into *[]string) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.w.emit(lines.Text())
		p.mu.Lock()
		*into = append(*into, lines.Text())
		p.mu.Unlock()
	}
}

func (p *worker) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

func (p *worker) output() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.out)
}

// logged returns the number of log lines that contain all the texts.
func (p *worker) logged(texts ...string) int {
	n := 0
	for _, line := range p.lines() {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

// waitFor waits for a log line that contains all the texts.
func (p *worker) waitFor(texts ...string) {
	p.w.t.Helper()
	eventually(p.w.t, func() bool {
		select {
		case <-p.ended:
			// All is logged that ever will be.
			if p.logged(texts...) == 0 {
				p.w.t.Fatalf("the worker ended with %s and never logged %q:\n%s", p.command.ProcessState, texts, strings.Join(p.lines(), "\n"))
			}
		default:
		}
		return p.logged(texts...) > 0
	}, "the worker logs %q", texts)
}

// ready waits until the worker has seeded, listens, and has verified once.
func (p *worker) ready() *worker {
	p.w.t.Helper()
	p.waitFor("msg=ready")
	return p
}

func (p *worker) signal(s syscall.Signal) {
	p.w.t.Helper()
	require.NoError(p.w.t, p.command.Process.Signal(s))
}

// wait waits for the worker's end and returns its exit code, -1 after a kill.
func (p *worker) wait() int {
	p.w.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.w.t.Fatalf("the worker did not end within %s:\n%s", patience, strings.Join(p.lines(), "\n"))
	}
	return p.command.ProcessState.ExitCode()
}

// kill9 kills the worker, which gets no chance to do anything about it.
func (p *worker) kill9() {
	p.w.t.Helper()
	p.signal(syscall.SIGKILL)
	require.Equal(p.w.t, -1, p.wait())
}

// stop stops the worker cleanly.
func (p *worker) stop() {
	p.w.t.Helper()
	p.signal(syscall.SIGTERM)
	require.Equal(p.w.t, 0, p.wait(), "exit code after SIGTERM")
}

// alerts returns all alerts in order, each as "kind provider", or "kind" when it is about
// no provider.
func (w *world) alerts() []string {
	w.t.Helper()
	return w.strings(`SELECT rtrim(kind || ' ' || provider) FROM provwatch.drift_alerts ORDER BY seq`)
}

// expectAlerts waits until exactly these alerts have been published, as [world.alerts] has
// them, and checks that the rows, their gapless seq and the
// notifications agree.
func (w *world) expectAlerts(want ...string) {
	w.t.Helper()
	eventually(w.t, func() bool { return len(w.alerts()) >= len(want) }, "alerts %q, have %q", want, lazily(w.alerts))
	require.Equal(w.t, want, w.alerts())
	require.Equal(w.t, len(want), w.count(`SELECT coalesce(max(seq), 0) FROM provwatch.drift_alerts`), "seq has gaps")
	eventually(w.t, func() bool { return len(w.payloads(pubsub.DriftAlerts)) >= len(want) }, "notifications of %d alerts", len(want))
	var notified []string
	for i, payload := range w.payloads(pubsub.DriftAlerts) {
		var alert pubsub.DriftAlert
		require.NoError(w.t, json.Unmarshal([]byte(payload), &alert))
		require.EqualValues(w.t, i+1, alert.Seq)
		notified = append(notified, strings.TrimSpace(string(alert.Kind)+" "+alert.Provider))
	}
	require.Equal(w.t, want, notified, "notified on %s", pubsub.DriftAlerts)
}

// needsInstalledServer skips a test whose worker starts a private PostgreSQL when
// the tests are to run on another one than the installed.
func needsInstalledServer(t *testing.T) {
	t.Helper()
	if dir := pgtest.BinDir(); dir != "" {
		t.Skipf("a private PostgreSQL is the installed one, and the tests run on that of %s", dir)
	}
}

// bothSources runs a test once with each source.
func bothSources(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	bothSourcesOf(t, newWorldOf, test)
}

// bothSourcesOf is bothSources in worlds of another kind.
func bothSourcesOf(t *testing.T, of func(t *testing.T, source string) *world, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			test(t, of(t, source))
		})
	}
}

// lazily defers a call to when its result is printed.
func lazily(f func() []string) fmt.Stringer { return lazy(f) }

type lazy func() []string

func (f lazy) String() string { return fmt.Sprintf("%q", f()) }

// Environments that most tests use.
const (
	openAIKey    = "sk-openai-0123456789-abcdefghij-OPENAI"
	anthropicKey = "sk-ant-0123456789-abcdefghij-ANTHROPIC"
)

// twoProviders names the providers openai and anthropic.
func (w *world) twoProviders() environ {
	return environ{
		"CODER_AIBRIDGE_OPENAI_KEY":    w.secret(openAIKey),
		"CODER_AIBRIDGE_ANTHROPIC_KEY": w.secret(anthropicKey),
	}
}

// with returns a copy of the environment with one more variable.
func (e environ) with(name, value string) environ {
	more := environ{name: value}
	for n, v := range e {
		if n != name {
			more[n] = v
		}
	}
	return more
}
