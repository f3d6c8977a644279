//go:build e2e

package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"strings"

	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
	"provwatch/internal/waittest"
	"provwatch/internal/workertest"
)

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
	started []*workertest.Process
	emitted bytes.Buffer // output of all commands, and all payloads
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

// needsInstalledServer skips a test whose worker starts a private PostgreSQL when
// the tests are to run on another one than the installed.
func needsInstalledServer(t *testing.T) {
	t.Helper()
	if dir := pgtest.BinDir(); dir != "" {
		t.Skipf("a private PostgreSQL is the installed one, and the tests run on that of %s", dir)
	}
}

// file writes a file into a folder of the test.
func (w *world) file(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), name)
	w.rewrite(path, content)
	return path
}

func (w *world) rewrite(path, content string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(path, []byte(content), 0o600))
}

// eventually waits until the condition holds.
func eventually(t *testing.T, condition func() bool, message string, args ...any) {
	t.Helper()
	waittest.Until(t, condition, message, args...)
}

// lazily defers a call to when its result is printed.
func lazily(f func() []string) fmt.Stringer { return lazy(f) }

type lazy func() []string

func (f lazy) String() string { return fmt.Sprintf("%q", f()) }

// block is an expected output, written with a first line break and an
// indentation by tabs, which do not count.
func block(text string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimPrefix(text, "\n")) {
		lines = append(lines, strings.TrimLeft(line, "\t"))
	}
	return strings.Join(lines, "")
}
