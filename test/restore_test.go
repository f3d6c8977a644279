//go:build e2e

package test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/embedded"
	"provwatch/internal/pgtest"
)

func TestRestore(t *testing.T) {
	t.Parallel()
	t.Run("ResumesFromRecords", testRestoreResumesFromRecords)
	t.Run("DumpElsewhere", testRestoreDumpElsewhere)
	t.Run("OneTransaction", testRestoreOneTransaction)
}

// testRestoreResumesFromRecords takes a copy of a server's files before
// its latest alerts, and puts it back while the worker runs.
func testRestoreResumesFromRecords(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			c := pgtest.NewCluster(t)
			w := newWorldOn(t, c.URL(), source)
			env := w.twoProviders()
			change := func(name string, enabled bool) {
				t.Helper()
				w.db = w.connect()
				w.exec(`UPDATE ai_providers SET enabled = $2 WHERE name = $1`, name, enabled)
			}
			w.start(env, "run").ready().kill9()
			change("anthropic", false) // which no alert is of yet
			c.Stop(t, "fast")
			putBack := c.Save(t)
			c.StartAgain(t)
			p := w.start(env, "run", "--on-boot-drift=alert", "--http-addr=127.0.0.1:0").ready()
			change("openai", false)
			w.expectRows("disabled anthropic", "disabled openai")
			change("anthropic", true)
			w.expectRows("disabled anthropic", "disabled openai", "resolved anthropic")

			c.Stop(t, "fast")
			putBack()
			c.StartAgain(t)
			w.db = w.connect()
			w.expectRows("disabled anthropic")
			p.expectReady()
			change("openai", false)
			w.expectRows("disabled anthropic", "disabled openai")
			p.stop()
			w.requireRows("disabled anthropic", "disabled openai")
		})
	}
}

// testRestoreDumpElsewhere restores a dump into a server of the
// version of the tests; it is taken from the installed version where that is older.
func testRestoreDumpElsewhere(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			there := pgtest.NewCluster(t)
			major := majorOf(t, there)
			here := pgtest.NewClusterWith(t, dumped(t, major))
			t.Logf("from PostgreSQL %d to %d, by pg_dump %d", majorOf(t, here), major, dumpVersion(t))
			w := newWorldOn(t, here.URL(), source)
			env := w.twoProviders()
			p := w.start(env, "run").ready()
			w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			w.expectAlerts("disabled openai")
			p.stop()
			w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`) // which no alert is of yet

			dump, err := exec.Command("pg_dump", "--no-privileges", "--no-owner", "--dbname", w.url).Output()
			require.NoError(t, err)
			restore := exec.Command("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", there.URL())
			restore.Stdin = strings.NewReader(string(dump))
			out, err := restore.CombinedOutput()
			require.NoError(t, err, string(out))

			w.url = there.URL()
			w.db = w.connect()
			w.findServer()
			w.exec("ALTER DATABASE provwatch SET log_statement = 'all'")
			w.prepare()
			p = w.start(env, "run", "--on-boot-drift=alert", "--http-addr=127.0.0.1:0").ready()
			w.expectRows("disabled openai", "disabled anthropic")
			p.expectReady()
			w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
			w.expectRows("disabled openai", "disabled anthropic", "resolved openai")
			if source == "wal" {
				require.Equal(t, 1, p.logged("replication slot created"))
			}
			p.stop()
			w.requireRows("disabled openai", "disabled anthropic", "resolved openai")
		})
	}
}

// testRestoreOneTransaction restores the rows of a dump as docs/runbook.md has it, while a worker
// runs. The rows that the environment does not name keep their ids, and stay known.
func testRestoreOneTransaction(t *testing.T) {
	t.Parallel()
	runbook, err := os.ReadFile("../docs/runbook.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)```sh\n(pg_restore [^`]*)\n```").FindSubmatch(runbook)
	require.Len(t, found, 2)
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			c := pgtest.NewCluster(t)
			if o := dumped(t, majorOf(t, c)); o.BinDir != "" {
				c = pgtest.NewClusterWith(t, o)
			}
			w := newWorldOn(t, c.URL(), source)
			w.crowd()
			p := w.start(w.twoProviders(), "run", "--resync=1h").ready()
			rows := w.count(`SELECT count(*) FROM ai_providers`)
			keys := w.count(`SELECT count(*) FROM ai_provider_keys`)
			require.Positive(t, keys)
			dir := t.TempDir()
			run := func(name string, args ...string) {
				t.Helper()
				command := exec.Command(name, args...)
				command.Dir, command.Env = dir, append(os.Environ(), "DATABASE_URL="+w.url)
				out, err := command.CombinedOutput()
				require.NoError(t, err, string(out))
			}
			run("pg_dump", "--format=custom", "--file=backup.dump", "--dbname", w.url)
			run("sh", "-c", string(found[1]))
			w.insertProvider("openai", "rogue", "https://rogue.example/")
			w.expectAlerts("unmanaged rogue")
			p.stop()
			w.requireRows("unmanaged rogue")
			require.Equal(t, rows+1, w.count(`SELECT count(*) FROM ai_providers`))
			require.Equal(t, keys, w.count(`SELECT count(*) FROM ai_provider_keys`))
		})
	}
}

// dumped returns the options of a server that the installed pg_dump can dump, where it is older than
// the version of the tests.
func dumped(t *testing.T, tested int) (o pgtest.Options) {
	t.Helper()
	if dumps := dumpVersion(t); dumps < tested {
		var err error
		o.BinDir, err = embedded.FindBinDir(t.Context(), dumps)
		require.NoError(t, err)
	}
	return o
}

// majorOf returns the major version of a server.
func majorOf(t *testing.T, c *pgtest.Cluster) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL())
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	var version int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int`).Scan(&version))
	return version / 10000
}

// dumpVersion returns the major version of pg_dump, the latest that it dumps.
func dumpVersion(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("pg_dump", "--version").Output()
	require.NoError(t, err)
	m := regexp.MustCompile(`\(PostgreSQL\) (\d+)`).FindSubmatch(out)
	require.NotNil(t, m, string(out))
	version, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	return version
}
