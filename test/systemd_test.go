//go:build e2e

package test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// serviceManager receives what a worker tells its service manager.
type serviceManager struct {
	t      *testing.T
	socket string
	mu     sync.Mutex
	said   []string
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	m := &serviceManager{t: t, socket: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, strings.Split(string(buffer[:n]), "\n")...)
			m.mu.Unlock()
		}
	}()
	return m
}

func (m *serviceManager) count(state string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, said := range m.said {
		if strings.HasPrefix(said, state) {
			n++
		}
	}
	return n
}

// settle waits until everything is counted that was sent so far: datagrams arrive
// in the order in which they are sent.
func (m *serviceManager) settle() {
	m.t.Helper()
	conn, err := net.Dial("unixgram", m.socket)
	require.NoError(m.t, err)
	defer func() { _ = conn.Close() }()
	want := m.count(settled) + 1
	_, err = conn.Write([]byte(settled))
	require.NoError(m.t, err)
	eventually(m.t, func() bool { return m.count(settled) == want }, "what was sent is counted")
}

// settled is what [serviceManager.settle] sends.
const settled = "SETTLE=1"

// states returns what was said of the worker's state, in order.
func (m *serviceManager) states() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.said), func(s string) bool {
		return s == "WATCHDOG=1" || s == settled || strings.HasPrefix(s, "STATUS=")
	})
}

func TestSystemd(t *testing.T) {
	t.Parallel()
	t.Run("Notifications", testSystemdNotifications)
	t.Run("FrozenMissesTheWatchdog", testSystemdFrozenMissesTheWatchdog)
}

func testSystemdNotifications(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	manager := newServiceManager(t)
	env := w.twoProviders().With("NOTIFY_SOCKET", manager.socket).With("WATCHDOG_USEC", "200000")
	p := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
	eventually(t, func() bool { return slices.Equal(manager.states(), []string{"READY=1"}) }, "ready is said once")
	eventually(t, func() bool { return manager.count("STATUS=watching 2 providers, leading, source notify") > 0 }, "the status is said")

	p.signal(syscall.SIGHUP)
	want := []string{"READY=1", "RELOADING=1", "READY=1"}
	eventually(t, func() bool { return slices.Equal(manager.states(), want) }, "a reload is said, and its end")

	// A database that is away is no reason to be restarted.
	t.Cleanup(func() {
		if t.Failed() {
			w.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS true`)
		}
	})
	w.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS false`)
	w.endSessions()
	eventually(t, func() bool { return manager.count("STATUS=not ready: not listening: ") > 0 }, "the status says what is wrong")
	before := manager.count("WATCHDOG=1")
	eventually(t, func() bool { return manager.count("WATCHDOG=1") > before+5 }, "the watchdog is answered")
	status, _ := p.get("/healthz")
	require.Equal(t, http.StatusOK, status)
	w.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS true`)
	p.waitFor("msg=listening", "reconnected=true")

	p.stop()
	manager.settle()
	require.Equal(t, append(want, "STOPPING=1"), manager.states())
}

func testSystemdFrozenMissesTheWatchdog(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	manager := newServiceManager(t)
	p := w.start(w.twoProviders().With("NOTIFY_SOCKET", manager.socket).With("WATCHDOG_USEC", "20000"), "run").ready()
	eventually(t, func() bool { return manager.count("WATCHDOG=1") > 5 }, "the watchdog is answered")
	p.signal(syscall.SIGSTOP)
	eventually(t, func() bool {
		// The state of the process is that of one thread, and the others stop by and by.
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.command.Process.Pid))
		require.NoError(t, err)
		require.NotEmpty(t, threads)
		return !slices.ContainsFunc(threads, func(thread string) bool {
			state, err := os.ReadFile(thread)
			require.NoError(t, err)
			_, after, _ := strings.Cut(string(state), ") ")
			return !strings.HasPrefix(after, "T")
		})
	}, "the worker is frozen")
	manager.settle()
	before := manager.count("WATCHDOG=1")
	// This takes many times as long as the watchdog's.
	w.start(w.twoProviders(), "run").ready().stop()
	manager.settle()
	require.Equal(t, before, manager.count("WATCHDOG=1"))
	p.signal(syscall.SIGCONT)
	p.stop()
}
