//go:build soak

package soak

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/embedded"
	"provwatch/internal/pgtest"
)

// clock is a wall clock of some processes and of no others: the machine's, moved by what
// a file says that these processes have mapped.
type clock struct {
	file  string // holds by how many seconds, which SOAK_CLOCK names to the processes
	hours int
}

// jump moves the clock to another whole hour than before, ahead or back.
func (c *clock) jump(n int) bool {
	hours := []int{0, 1, 2, 26}
	next := hours[n%len(hours)]
	if next == c.hours {
		next = hours[(n+1)%len(hours)]
	}
	c.hours = next
	return c.move(int64(next) * 3600)
}

// move writes over the file.
func (c *clock) move(seconds int64) bool {
	file, err := os.OpenFile(c.file, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return false
	}
	_, err = file.Write(binary.NativeEndian.AppendUint64(nil, uint64(seconds)))
	return errors.Join(err, file.Close()) == nil
}

// serverClock is that of the server's processes.
type serverClock struct {
	clock
	binDir string // of programs that start those of PostgreSQL with the clock
}

// newServerClock returns nil where testdata/clock/server.c is not compiled, or where the run is
// too long for [world.real].
func newServerClock(w *world) *serverClock {
	dir, err := os.MkdirTemp("", "provwatch-clock-")
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(w.t, os.Chmod(dir, 0o755))
	library := filepath.Join(dir, "clock.so")
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, "testdata/clock/server.c").CombinedOutput(); err != nil {
		fmt.Printf("soak %s: the server's clock is not moved: %v: %s\n", w.source, err, out)
		return nil
	}
	if *length > 40*time.Minute {
		return nil
	}
	programs := pgtest.BinDir()
	if programs == "" {
		programs, err = embedded.FindBinDir(w.t.Context(), 0)
		require.NoError(w.t, err)
	}
	c := &serverClock{clock{file: filepath.Join(dir, "moved")}, dir}
	require.True(w.t, c.move(0))
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		variables := ""
		if name == "pg_ctl" {
			// What it starts is the server, and has them too.
			variables = fmt.Sprintf("export LD_PRELOAD=%s SOAK_CLOCK=%s\n", library, c.file)
		}
		script := "#!/bin/sh\n" + variables + "exec " + filepath.Join(programs, name) + " \"$@\"\n"
		require.NoError(w.t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return c
}

// overlayClock writes what makes a build of the worker have a clock that can be moved, and
// returns the file for -overlay of go build: time.Now with an offset, and an init that
// maps the file of SOAK_CLOCK. Everything that is linked into the worker has that clock.
// The monotonic clock stays.
func overlayClock(dir string) (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find the sources of Go: %w", err)
	}
	sources := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	text, err := os.ReadFile(filepath.Join(sources, "time.go"))
	if err != nil {
		return "", err
	}
	const reading = "\tsec, nsec, mono := runtimeNow()\n"
	if n := strings.Count(string(text), reading); n != 1 {
		return "", fmt.Errorf("time.go of Go reads the clock at %d places, not at one", n)
	}
	now := filepath.Join(dir, "time.go")
	if err := os.WriteFile(now, []byte(strings.Replace(string(text), reading, reading+"\tsec += moved()\n", 1)), 0o644); err != nil {
		return "", err
	}
	here, err := filepath.Abs("testdata")
	if err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(sources, "time.go"):                                       now,
		filepath.Join(sources, "soak_clock.go"):                                 filepath.Join(here, "clock", "time.go"),
		filepath.Join(here, "..", "..", "..", "cmd", "worker", "soak_clock.go"): filepath.Join(here, "clock", "main.go"),
	}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o644)
}

// The worker's log says the time by its own clock.
func TestWorkerClock(t *testing.T) {
	t.Parallel()
	c := clock{file: filepath.Join(t.TempDir(), "moved")}
	at := func() time.Time {
		command := exec.Command(workerBinary, "run", "--http-addr=127.0.0.1:0", "--connect-timeout=100ms")
		command.Env = []string{"SOAK_CLOCK=" + c.file, "DATABASE_URL=postgres://nobody@127.0.0.1:1/none", "GORACE=atexit_sleep_ms=0"}
		out, _ := command.CombinedOutput()
		_, rest, found := strings.Cut(string(out), "time=")
		require.True(t, found, string(out))
		stamp, _, _ := strings.Cut(rest, " ")
		logged, err := time.Parse(time.RFC3339, stamp)
		require.NoError(t, err, string(out))
		return logged
	}
	for _, hours := range []int{0, 26, -2} {
		require.True(t, c.move(int64(hours)*3600))
		require.WithinDuration(t, time.Now().Add(time.Duration(hours)*time.Hour), at(), 10*time.Minute)
	}
}
