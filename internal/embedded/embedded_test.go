package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// childDir, in the environment, makes the test program a worker that starts
// the server of that data dir, says so on its standard output and waits to be
// killed.
const childDir = "PROVWATCH_TEST_EMBEDDED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		s, err := Start(context.Background(), testOptions(dir))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("started " + strconv.Itoa(s.port))
		time.Sleep(time.Hour)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if template.parent != "" {
			os.RemoveAll(template.parent)
		}
		os.Exit(code)
	}))
}

// template is a data dir that tests get copies of: initdb takes long.
var template struct {
	once   sync.Once
	parent string
	err    error
}

// initialised returns a data dir that a server has run in.
func initialised(t *testing.T) string {
	t.Helper()
	template.once.Do(func() {
		template.parent, template.err = os.MkdirTemp("/tmp", "provwatch-embedded-")
		if template.err != nil {
			return
		}
		if template.err = os.Chmod(template.parent, 0o755); template.err != nil {
			return
		}
		s, err := Start(context.Background(), testOptions(filepath.Join(template.parent, "data")))
		if err != nil {
			template.err = err
			return
		}
		template.err = s.Stop(context.Background())
	})
	require.NoError(t, template.err)
	dir := filepath.Join(tempDir(t), "data")
	out, err := exec.CommandContext(t.Context(), "cp", "-Rp", filepath.Join(template.parent, "data"), dir).CombinedOutput()
	require.NoError(t, err, string(out))
	return dir
}

func testOptions(dir string) Options {
	return Options{DataDir: dir, Settings: map[string]string{"fsync": "off"}}
}

// tempDir returns a folder that the server's user can reach, unlike that of
// t.TempDir.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "provwatch-embedded-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// start starts a server that is stopped at the end of the test at the latest.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		p, isRunning := running(s.cluster.pgdata)
		require.NoError(t, s.Stop(context.Background()))
		if isRunning {
			state, _ := inspect(p.pid, s.cluster.pgdata)
			require.Equal(t, processDead, state, "its process has ended")
		}
	})
	return s
}

// query runs a query that gives one text.
func query(t *testing.T, connString, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), connString)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var s string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&s))
	return s
}

func TestStart(t *testing.T) {
	t.Parallel()
	t.Run("Settings", testStartSettings)
	t.Run("SecondWorker", testStartSecondWorker)
	t.Run("ForeignFolder", testStartForeignFolder)
	t.Run("UnreachableFolder", testStartUnreachableFolder)
	t.Run("MissingPrograms", testStartMissingPrograms)
}

func testStartSettings(t *testing.T) {
	t.Parallel()
	o := testOptions(initialised(t))
	o.Settings["application_name"] = `it's $HOME`
	o.Settings["max_wal_senders"] = "7"
	s := start(t, o)
	for name, want := range map[string]string{
		"wal_level": "logical", "listen_addresses": "127.0.0.1", "max_replication_slots": "10",
		"max_wal_senders": "7", "server_encoding": "UTF8", "lc_collate": "C",
	} {
		require.Equal(t, want, query(t, s.ConnString(), "SHOW "+name), name)
	}
	require.Equal(t, `it's $HOME`, query(t, s.ConnString(),
		"SELECT reset_val FROM pg_settings WHERE name = 'application_name'"))
}

func testStartSecondWorker(t *testing.T) {
	t.Parallel()
	dir := initialised(t)
	s := start(t, testOptions(dir))
	_, err := Start(t.Context(), testOptions(dir))
	require.ErrorContains(t, err, fmt.Sprintf("another worker (pid %d) is using %s", os.Getpid(), dir))
	require.ErrorContains(t, err, "DATABASE_URL")
	require.Equal(t, "on", query(t, s.ConnString(), "SELECT 'on'"), "the first is not disturbed")
}

func testStartForeignFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "data")
	file := filepath.Join(dir, "pgdata", "letter.txt")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte("dear"), 0o644))
	_, err := Start(t.Context(), testOptions(dir))
	require.ErrorContains(t, err, "PG_VERSION")
	require.FileExists(t, file)
}

func testStartUnreachableFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	closed := filepath.Join(tempDir(t), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	for _, dir := range []string{filepath.Join(closed, "data"), filepath.Join(closed, "a", "b")} {
		_, err := Start(t.Context(), testOptions(dir))
		require.ErrorContains(t, err, "the folder "+closed+" is closed")
		require.ErrorContains(t, err, "--data-dir")
		require.NoDirExists(t, dir)
	}
}

func testStartMissingPrograms(t *testing.T) {
	t.Parallel()
	o := testOptions(filepath.Join(tempDir(t), "data"))
	o.BinDir = tempDir(t)
	_, err := Start(t.Context(), o)
	require.ErrorContains(t, err, "initdb")
	require.NoDirExists(t, o.DataDir)
}
