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

	"time"

	"provwatch/internal/pgtest"
)

func TestShutdown(t *testing.T) {
	t.Parallel()
	t.Run("InTimeWithoutTheServer", testShutdownInTimeWithoutTheServer)
	t.Run("SilentServerIsNoticed", testShutdownSilentServerIsNoticed)
	t.Run("SecondSignal", testShutdownSecondSignal)
	t.Run("Timeout", testShutdownTimeout)
	t.Run("DuringBoot", testShutdownDuringBoot)
}

// testShutdownInTimeWithoutTheServer stops every process of the server,
// which then neither answers nor closes a connection.
func testShutdownInTimeWithoutTheServer(t *testing.T) {
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

// testShutdownSilentServerIsNoticed freezes the server while the worker is
// connected to it, which closes nothing.
func testShutdownSilentServerIsNoticed(t *testing.T) {
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

func testShutdownSecondSignal(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.migrate()
	env := w.twoProviders()
	unlock := w.lock("provwatch.audit_log", "EXCLUSIVE")
	p := w.start(env, "run", "--shutdown-timeout=10m").ready()
	eventually(t, func() bool { return w.waiting("provwatch.audit_log") }, "the delivery waits")
	p.signal(syscall.SIGTERM)
	p.waitFor("msg=stopping")
	// Signals that arrive together count as one, so it takes some more.
	eventually(t, func() bool {
		_ = p.command.Process.Signal(syscall.SIGTERM) // may have ended
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	}, "the worker ends")
	require.Equal(t, 1, p.wait())
	require.Zero(t, p.logged("msg=stopped"))
	w.endSessions()
	unlock()
	require.Equal(t, 4, w.count(`SELECT count(*) FROM provwatch.audit_outbox`))

	// Nothing is lost: the next boot delivers.
	p = w.start(env, "run").ready()
	w.expectAuditOfTwoProviders()
	p.stop()
}

func testShutdownTimeout(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.migrate()
	env := w.twoProviders()
	unlock := w.lock("provwatch.audit_log", "EXCLUSIVE")
	p := w.start(env, "run", "--shutdown-timeout=1s").ready()
	eventually(t, func() bool { return w.waiting("provwatch.audit_log") }, "the delivery waits")
	start := time.Now()
	p.stop() // with exit code 0, though the delivery would wait for the lock's end
	require.GreaterOrEqual(t, time.Since(start), 900*time.Millisecond, "it tried to deliver")
	require.Equal(t, 1, p.logged("level=WARN", "audit entries stay in the outbox until the next start"))
	require.Equal(t, 1, p.logged("msg=stopped"))
	require.Equal(t, 4, w.count(`SELECT count(*) FROM provwatch.audit_outbox`))
	w.endSessions()
	unlock()

	p = w.start(env, "run").ready()
	w.expectAuditOfTwoProviders()
	p.stop()
}

func testShutdownDuringBoot(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	w.migrate()
	unlock := w.lock("ai_providers", "EXCLUSIVE")
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := w.start(w.twoProviders(), "run")
		eventually(t, func() bool { return w.waiting("ai_providers") }, "the seed waits")
		p.signal(s)
		require.Equal(t, 0, p.wait())
		eventually(t, func() bool { return !w.waiting("ai_providers") }, "its session ends")
	}
	unlock()
	require.Zero(t, w.count(`SELECT count(*) FROM ai_providers`))
}
