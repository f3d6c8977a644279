//go:build e2e

package test

import (
	"fmt"
	"net/http"
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

	thaw := w.freezeServer()
	p.signal(syscall.SIGTERM)
	code := p.wait()
	thaw()
	require.Equal(t, 0, code)
	// A worker that had waited for its connections would have closed them: each is given
	// up after 15 seconds.
	require.Equal(t, 1, p.logged("level=WARN", "connections not closed: the server does not answer"))
}

// TestAServerThatAnswersNoLongerIsNoticedInTime freezes the server while the worker is
// connected to it, which closes nothing.
func TestAServerThatAnswersNoLongerIsNoticedInTime(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	w := newWorldOn(t, cluster.NewDatabase(t), "")
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0", "--probe-interval=200ms", "--answer-timeout=2s", "--max-backoff=200ms").ready()
	lost := p.logged("listening connection lost") // a busy machine can lose it before
	thaw := w.freezeServer()
	eventually(t, func() bool { return p.logged("listening connection lost") > lost }, "the connection is given up")
	eventually(t, func() bool {
		status, reason := p.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(reason, "not listening")
	}, "it is not ready, and says why")
	thaw()
	eventually(t, func() bool { status, _ := p.get("/readyz"); return status == http.StatusOK }, "it is ready again")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.stop()
}

// freezeServer stops all processes of the server, until thaw is called or the test ends.
func (w *world) freezeServer() (thaw func()) {
	w.t.Helper()
	pids := w.serverProcesses()
	signalAll := func(s syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, s)
		}
	}
	thaw = func() { signalAll(syscall.SIGCONT) }
	w.t.Cleanup(thaw)
	signalAll(syscall.SIGSTOP)
	return thaw
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
