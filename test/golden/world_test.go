//go:build e2e

package golden

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
	"provwatch/internal/workertest"
)

// Secrets of the environments. No golden file may hold one.
const (
	openAIKey     = workertest.OpenAIKey
	anthropicKey  = workertest.AnthropicKey
	rotatedKey    = "sk-rotated-0123456789-abcdefghij-ROTATED"
	awsKey        = "AKIA0123456789GOLDEN"
	awsSecret     = "aws-secret-0123456789-golden"
	urlPassword   = "hunter2-in-the-userinfo"
	webhookSecret = "secret-of-the-webhook-0123456789"
)

var secrets = []string{openAIKey, anthropicKey, rotatedKey, awsKey, awsSecret, urlPassword, webhookSecret}

type environ = workertest.Environ

// world is a test's place: a folder, a database unless it is of [newPlace], and what
// varies in the texts that come from there. It belongs to the test's goroutine, except
// for notes.
type world struct {
	t *testing.T
	normaliser
	home string
	env  environ // of each command
	db   *pgx.Conn

	mu    sync.Mutex
	notes []note // what was published, in order
}

// note is a notification.
type note struct{ channel, payload string }

// newPlace is a world without a database.
func newPlace(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, home: t.TempDir(), env: environ{}}
	w.replace(w.home, "<home>")
	return w
}

// newWorld is a world with an empty database. An empty source is the default.
func newWorld(t *testing.T, source string) *world {
	t.Helper()
	w := newPlace(t)
	w.useDatabase("DATABASE_URL", "<database>")
	if source != "" {
		w.env["PROVWATCH_SOURCE"] = source
	}
	return w
}

// useDatabase creates a database and puts its URL into a variable. The world's connection
// is to the latest one.
func (w *world) useDatabase(variable, placeholder string) {
	w.t.Helper()
	url := pgtest.NewDatabase(w.t)
	conn, err := pgx.Connect(w.t.Context(), url)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	w.db, w.env[variable] = conn, url
	w.replace(conn.Config().Host, "<sockets>")
	w.replace(conn.Config().Database, placeholder)
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), query, args...)
	require.NoError(w.t, err)
}

// lines returns the result of a query of one text column.
func (w *world) lines(query string, args ...any) []string {
	w.t.Helper()
	rows, err := w.db.Query(w.t.Context(), query, args...)
	require.NoError(w.t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	return list
}

// until waits until a query of one boolean returns true.
func (w *world) until(what, query string, args ...any) {
	w.t.Helper()
	waittest.Until(w.t, func() bool {
		var holds bool
		require.NoError(w.t, w.db.QueryRow(w.t.Context(), query, args...).Scan(&holds))
		return holds
	}, "%s", what)
}

// file writes a file into the world's folder, and returns its path.
func (w *world) file(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.home, name)
	require.NoError(w.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func (w *world) command(env environ, args ...string) *exec.Cmd {
	command := exec.Command(workerBinary, args...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.home, "TZ=UTC"}
	for _, variables := range []environ{w.env, env} { // of two with one name the last applies
		for name, value := range variables {
			command.Env = append(command.Env, name+"="+value)
		}
	}
	return command
}

type result = workertest.Result

// run runs a worker command to its end.
func (w *world) run(env environ, args ...string) result {
	w.t.Helper()
	return workertest.Run(w.t, w.command(env, args...))
}

// worker is a command that goes on until it is stopped.
type worker struct {
	*workertest.Process
	t *testing.T
}

// start starts a worker command that goes on until it is stopped, at the latest at the
// end of the test.
func (w *world) start(env environ, args ...string) *worker {
	w.t.Helper()
	return &worker{workertest.Start(w.t, w.command(env, args...)), w.t}
}

// startReady is start, and waits until the worker is ready.
func (w *world) startReady(env environ, args ...string) *worker {
	w.t.Helper()
	p := w.start(env, args...)
	p.WaitUntilReady()
	return p
}

// stop stops the worker by a signal and returns its exit code.
func (p *worker) stop(signal syscall.Signal) int {
	p.t.Helper()
	p.Signal(signal)
	return p.Wait()
}

// channels are all channels that are published on.
var channels = []string{
	"ai_providers_changed", "ai_provider_drift", "ai_provider_seeded", "ai_provider_audit",
	"provwatch_status", "provwatch_sinks", "provwatch_outbox", "provwatch_silences", "provwatch_environments",
}

// listen gathers what is published until the test ends.
func (w *world) listen() {
	w.t.Helper()
	workertest.Listen(w.t, w.env["DATABASE_URL"], channels, func(n *pgconn.Notification) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notes = append(w.notes, note{n.Channel, n.Payload})
	})
}

// published returns what was published so far.
func (w *world) published() []note {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.notes)
}

// waitForNote waits until something was published on the channel that holds the text.
func (w *world) waitForNote(channel, text string) {
	w.t.Helper()
	waittest.Until(w.t, func() bool {
		return slices.ContainsFunc(w.published(), func(n note) bool { return n.channel == channel && strings.Contains(n.payload, text) })
	}, "%q is published on %s", text, channel)
}

// transcript is what commands print, one after the other.
type transcript struct {
	w    *world
	text strings.Builder
}

// note adds what was done before the next command.
func (s *transcript) note(format string, args ...any) {
	fmt.Fprintf(&s.text, "# %s\n\n", fmt.Sprintf(format, args...))
}

// run runs a command and adds it with all that it leaves. Of the environment it adds the
// variables of flags.
func (s *transcript) run(env environ, args ...string) {
	s.w.t.Helper()
	s.add(env, args, s.w.run(env, args...))
}

func (s *transcript) add(env environ, args []string, r result) {
	s.text.WriteString("$ ")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.HasPrefix(name, "PROVWATCH_") {
			fmt.Fprintf(&s.text, "%s=%s ", name, env[name])
		}
	}
	fmt.Fprintf(&s.text, "worker %s\n", strings.Join(args, " "))
	s.part("standard output", r.Stdout)
	s.part("standard error", r.Stderr)
	fmt.Fprintf(&s.text, "[exit code %d]\n\n", r.Code)
}

func (s *transcript) part(name, text string) {
	if text == "" {
		return
	}
	fmt.Fprintf(&s.text, "[%s]\n%s", name, text)
	if !strings.HasSuffix(text, "\n") {
		s.text.WriteString("\n[no line break at the end]\n")
	}
}

// normalised returns the transcript without what varies.
func (s *transcript) normalised() string { return s.w.normaliser.text(s.text.String()) }
