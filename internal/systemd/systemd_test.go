package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

// manager receives what a service manager would, on a socket of its own.
func manager(t *testing.T) func() string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		require.NoError(t, socket.SetReadDeadline(time.Now().Add(waittest.Patience)))
		buffer := make([]byte, 4096)
		n, err := socket.Read(buffer)
		require.NoError(t, err)
		return string(buffer[:n])
	}
}

// liveness is a daemon that is alive while it returns nil.
type liveness func() error

func (l liveness) Alive() error { return l() }

var alive = liveness(func() error { return nil })

func TestService(t *testing.T) {
	t.Run("ReadyWithAllMembers", testServiceReadyWithAllMembers)
	t.Run("Watchdog", testServiceWatchdog)
	t.Run("NoServiceManager", testServiceNoServiceManager)
}

func testServiceReadyWithAllMembers(t *testing.T) {
	next := manager(t)
	s := New(slog.New(slog.DiscardHandler))
	one, two := s.Join(alive), s.Join(alive)
	one.Ready()
	one.Reloading() // not said while the other boots
	one.Reloaded()
	two.Status("booting:\nstill")
	require.Equal(t, "STATUS=booting: still", next(), "the first that is said")
	two.Status("booting: still") // no news
	two.Ready()
	require.Equal(t, "READY=1", next())
	one.Reloading()
	require.Equal(t, "RELOADING=1", next())
	two.Reloading()
	one.Reloaded()
	two.Reloaded()
	require.Equal(t, "READY=1", next(), "when the last has reloaded")
	one.Status("fine")
	require.Equal(t, "STATUS=fine; booting: still", next())
	one.Stopping()
	require.Equal(t, "STOPPING=1", next())
	one.Reloading()
	two.Stopping()
	two.Status("last")
	require.Equal(t, "STATUS=fine; last", next(), "nothing follows stopping but words")
}

// testServiceWatchdog checks that the watchdog is answered only while every member is
// alive.
func testServiceWatchdog(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "")
	var log strings.Builder
	s := New(slog.New(slog.NewTextHandler(&log, nil)))
	var dead atomic.Bool
	asked := make(chan struct{}, 1)
	s.Join(alive)
	m := s.Join(liveness(func() error {
		if !dead.Load() {
			return nil
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return errors.New("it stands still")
	}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	for range 3 {
		require.Equal(t, "WATCHDOG=1", next())
	}
	dead.Store(true)
	for range 3 { // the watchdog's time has passed by then
		<-asked
	}
	cancel()
	<-done
	m.Status("end")
	for {
		if said := next(); said != "WATCHDOG=1" { // of before
			require.Equal(t, "STATUS=end", said)
			break
		}
	}
	require.Contains(t, log.String(), "it stands still")
}

func testServiceNoServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var log strings.Builder
	s := New(slog.New(slog.NewTextHandler(&log, nil)))
	m := s.Join(alive)
	m.Ready()
	s.Run(t.Context()) // returns at once
	require.Empty(t, log.String())

	var none *Service
	none.Join(alive).Ready()

	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	m.Stopping()
	m.Status("x")
	require.Equal(t, 1, strings.Count(log.String(), "could not notify the service manager"), "once")
}
