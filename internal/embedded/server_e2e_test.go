//go:build e2e

package embedded

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

// TestEndingProcess looks at processes of a data directory all the while that they end. None
// is foreign.
func TestEndingProcess(t *testing.T) {
	t.Parallel()
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	dir := tempDir(t)
	program := filepath.Join(dir, "postgres")
	require.NoError(t, exec.CommandContext(t.Context(), "cp", sleep, program).Run())
	for range 100 {
		p := exec.Command(program, "600")
		p.Dir = dir
		require.NoError(t, p.Start())
		state, _ := inspect(p.Process.Pid, dir)
		require.Equal(t, processOurs, state)
		require.NoError(t, p.Process.Kill())
		for state != processDead {
			state, _ = inspect(p.Process.Pid, dir)
			require.Contains(t, []processState{processOurs, processDead}, state)
		}
		require.Error(t, p.Wait(), "it was killed")
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	t.Run("KeepsData", testRestartKeepsData)
	t.Run("AdoptsServer", testRestartAdoptsServer)
	t.Run("RecoversFromKill", testRestartRecoversFromKill)
	t.Run("ForeignPIDFile", testRestartForeignPIDFile)
	t.Run("OtherMajorVersion", testRestartOtherMajorVersion)
}

func testRestartKeepsData(t *testing.T) {
	t.Parallel()
	// Characters that a shell and a connection string take for their own.
	dir := filepath.Join(tempDir(t), `it's $HOME, "a\b"`)
	s := start(t, testOptions(dir))
	require.False(t, s.adopted)
	require.Regexp(t, `^\d+\.\d+`, s.Version())
	require.Equal(t, "1", query(t, s.ConnString(), "WITH x AS (SELECT 1) SELECT count(*)::text FROM x"))
	conn, err := pgx.Connect(t.Context(), s.ConnString())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE TABLE t AS SELECT 'kept' AS v")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Stop(t.Context()), "a second Stop does nothing")

	s = start(t, testOptions(dir))
	require.Equal(t, "kept", query(t, s.ConnString(), "SELECT v FROM t"))
}

func TestServerAccess(t *testing.T) {
	t.Parallel()
	dir := initialised(t)
	s := start(t, testOptions(dir))
	info, err := os.Stat(s.socketDir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	info, err = os.Stat(filepath.Join(dir, "password"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	password, err := os.ReadFile(filepath.Join(dir, "password"))
	require.NoError(t, err)

	tcp := fmt.Sprintf("host=127.0.0.1 port=%d user=provwatch dbname=provwatch sslmode=disable", s.port)
	_, err = pgx.Connect(t.Context(), tcp+" password=wrong")
	require.ErrorContains(t, err, "28P01")
	require.Equal(t, "scram-sha-256", query(t, tcp+" password="+strings.TrimSpace(string(password)),
		"SELECT auth_method FROM pg_hba_file_rules WHERE address = '127.0.0.1' AND database = '{all}'"))
}

func testRestartAdoptsServer(t *testing.T) {
	t.Parallel()
	dir := initialised(t)
	port := killWorker(t, dir)
	var log bytes.Buffer
	o := testOptions(dir)
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := start(t, o)
	require.True(t, s.adopted)
	require.Equal(t, port, query(t, s.ConnString(), "SHOW port"))
	require.Contains(t, log.String(), "adopting")
	require.NoError(t, s.Stop(t.Context()))
	require.NoFileExists(t, filepath.Join(dir, "pgdata", "postmaster.pid"))
}

func testRestartRecoversFromKill(t *testing.T) {
	t.Parallel()
	dir := initialised(t)
	s := start(t, testOptions(dir))
	p, err := readPostmaster(s.cluster.pgdata)
	require.NoError(t, err)
	process, err := os.FindProcess(p.pid)
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	waittest.Until(t, func() bool {
		_, ok := running(s.cluster.pgdata)
		return !ok
	}, "the server is gone")
	require.NoError(t, s.Stop(t.Context()), "stopping a server that is gone is no error")
	require.FileExists(t, filepath.Join(dir, "pgdata", "postmaster.pid"))

	s = start(t, testOptions(dir))
	require.False(t, s.adopted)
	require.Equal(t, "provwatch", query(t, s.ConnString(), "SELECT current_database()::text"))
}

func testRestartForeignPIDFile(t *testing.T) {
	t.Parallel()
	dir := initialised(t)
	s := start(t, testOptions(dir))
	pidFile := filepath.Join(dir, "pgdata", "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	require.NoError(t, s.Stop(t.Context()))

	other := exec.Command("sleep", "600")
	require.NoError(t, other.Start())
	defer func() {
		require.NoError(t, other.Process.Kill())
		require.Error(t, other.Wait())
	}()
	_, rest, _ := strings.Cut(string(text), "\n")
	fake := fmt.Sprintf("%d\n%s", other.Process.Pid, rest)
	require.NoError(t, os.WriteFile(pidFile, []byte(fake), 0o600))

	_, err = Start(t.Context(), testOptions(dir))
	require.ErrorContains(t, err, pidFile)
	require.ErrorContains(t, err, strconv.Itoa(other.Process.Pid))
	require.ErrorContains(t, err, `"sleep"`)
	require.ErrorContains(t, err, "remove that file")
	got, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	require.Equal(t, fake, string(got))
	_, err = Attach(dir)
	require.ErrorIs(t, err, ErrNotRunning)
}

func testRestartOtherMajorVersion(t *testing.T) {
	t.Parallel()
	dir := initialised(t)
	version := filepath.Join(dir, "pgdata", "PG_VERSION")
	text, err := os.ReadFile(version)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(version, []byte("8\n"), 0o600))

	installed, err := FindBinDir(t.Context(), 0)
	require.NoError(t, err)
	for _, binDir := range []string{"", installed} {
		o := testOptions(dir)
		o.BinDir = binDir
		_, err = Start(t.Context(), o)
		require.ErrorContains(t, err, "PostgreSQL 8")
		require.ErrorContains(t, err, "PostgreSQL "+strings.TrimSpace(string(text))+" in ")
		require.ErrorContains(t, err, "--data-dir")
	}

	require.NoError(t, os.WriteFile(version, text, 0o600))
	s := start(t, testOptions(dir))
	require.Equal(t, "provwatch", query(t, s.ConnString(), "SELECT current_database()::text"))
}

func TestStartFaults(t *testing.T) {
	t.Parallel()
	t.Run("InterruptedInitdb", testStartFaultsInterruptedInitdb)
	t.Run("Cancelled", testStartFaultsCancelled)
	t.Run("ServerLog", testStartFaultsServerLog)
	t.Run("DeepFolder", testStartFaultsDeepFolder)
}

func testStartFaultsInterruptedInitdb(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "data")
	var err error
	waittest.Until(t, func() bool {
		var s *Server
		if s, err = cancelStart(t, testOptions(dir), filepath.Join(dir, tempInitPrefix+"*", "base"), 0); err == nil { // it was faster
			require.NoError(t, s.Stop(t.Context()))
			require.NoError(t, os.RemoveAll(dir))
		}
		return err != nil
	}, "initdb is interrupted")
	require.ErrorIs(t, err, context.Canceled)
	require.NoDirExists(t, filepath.Join(dir, "pgdata"))

	// What a worker leaves that was killed on the way.
	leftover := filepath.Join(dir, tempInitPrefix+"1")
	require.NoError(t, os.MkdirAll(filepath.Join(leftover, "base"), 0o700))
	start(t, testOptions(dir))
	require.NoDirExists(t, leftover)
}

func testStartFaultsCancelled(t *testing.T) {
	t.Parallel()
	dir := initialised(t)
	pidFile := filepath.Join(dir, "pgdata", "postmaster.pid")
	for _, delay := range []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond} {
		s, err := cancelStart(t, testOptions(dir), pidFile, delay)
		if err == nil { // it was faster
			require.NoError(t, s.Stop(t.Context()))
			continue
		}
		require.ErrorIs(t, err, context.Canceled)
		require.NoFileExists(t, pidFile)
	}
}

func testStartFaultsServerLog(t *testing.T) {
	t.Parallel()
	dir := initialised(t)
	o := testOptions(dir)
	o.Settings["shared_buffers"] = "a lot"
	_, err := Start(t.Context(), o)
	require.ErrorContains(t, err, "postgres.log")
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers": "a lot"`)
}

func testStartFaultsDeepFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), strings.Repeat("long", 30), "data")
	s := start(t, testOptions(dir))
	require.Equal(t, filepath.Clean(os.TempDir()), filepath.Dir(s.socketDir))
	require.Equal(t, "provwatch", query(t, s.ConnString(), "SELECT current_database()::text"))
	attached, err := Attach(dir)
	require.NoError(t, err)
	require.Equal(t, s.ConnString(), attached)
	require.NoError(t, s.Stop(t.Context()))
	require.NoDirExists(t, s.socketDir)
}

// killWorker starts a server in another process, kills that process and
// returns the port of the server left behind.
func killWorker(t *testing.T, dir string) (port string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	buf := make([]byte, 4096)
	n, err := stdout.Read(buf)
	require.NoError(t, err)
	line := strings.TrimSpace(string(buf[:n]))
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	port, ok := strings.CutPrefix(line, "started ")
	require.True(t, ok, line)
	return port
}

// cancelStart starts a server and cancels that a while after a file that
// matches pattern has appeared.
func cancelStart(t *testing.T, o Options, pattern string, delay time.Duration) (*Server, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if found, _ := filepath.Glob(pattern); len(found) > 0 {
				time.Sleep(delay)
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	s, err := Start(ctx, o)
	cancel()
	<-done
	return s, err
}
