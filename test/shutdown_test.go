package test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// TestStoppingInTimeDoesNotDependOnTheServer stops every process of the server,
// which then neither answers nor closes a connection.
func TestStoppingInTimeDoesNotDependOnTheServer(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	w := newWorldOn(t, cluster.NewDatabase(t), "")
	p := w.start(w.twoProviders(), "run", "--shutdown-timeout=2s").ready()

	freeze := w.serverProcesses()
	signalAll := func(s syscall.Signal) {
		for _, pid := range freeze {
			_ = syscall.Kill(pid, s)
		}
	}
	t.Cleanup(func() { signalAll(syscall.SIGCONT) })
	signalAll(syscall.SIGSTOP)
	start := time.Now()
	p.signal(syscall.SIGTERM)
	code := p.wait()
	took := time.Since(start)
	signalAll(syscall.SIGCONT)
	require.Equal(t, 0, code)
	// Twice the timeout leaves room for a busy machine, and is far below the 15
	// seconds that a connection to a hung server takes to be given up.
	require.Less(t, took, 8*time.Second)
}

// serverProcesses returns the pids of the server's processes, the postmaster's
// first.
func (w *world) serverProcesses() []int {
	w.t.Helper()
	directory := w.strings(`SELECT current_setting('data_directory')`)[0]
	file, err := os.ReadFile(directory + "/postmaster.pid")
	require.NoError(w.t, err)
	line, _, _ := strings.Cut(string(file), "\n")
	postmaster, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(w.t, err)
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	require.NoError(w.t, err)
	pids := []int{postmaster}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		require.NoError(w.t, err)
		pids = append(pids, pid)
	}
	return pids
}
