package test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

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
	p.signal(syscall.SIGTERM)
	code := p.wait()
	signalAll(syscall.SIGCONT)
	require.Equal(t, 0, code)
	// A worker that had waited for its connections would have closed them: each is given
	// up after 15 seconds.
	require.Equal(t, 1, p.logged("level=WARN", "connections not closed: the server does not answer"))
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
