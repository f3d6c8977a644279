//go:build e2e

package listener

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
)

func TestListenerFaults(t *testing.T) {
	t.Parallel()
	t.Run("SilentConnection", testListenerFaultsSilentConnection)
	t.Run("ReasonsLoggedOnce", testListenerFaultsReasonsLoggedOnce)
}

func testListenerFaultsSilentConnection(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	database := cluster.NewDatabase(t)
	proxy := newSilentProxy(t, cluster.TCPAddr())
	var seen events
	l := handle(New(configOf(t, cluster.TCPURL(t, database, proxy.Addr().String())), &seen, quiet), &seen)
	// A busy machine can take longer to answer than this, so that the connection can
	// be replaced before the proxy is silent as well.
	l.Probe(200*time.Millisecond, time.Second)
	start(t, l)
	last := func() string {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		return append([]string{"nothing"}, seen.list...)[len(seen.list)]
	}
	waittest.Until(t, func() bool { return strings.HasPrefix(last(), "listening") }, "it listens")
	proxy.silent.Store(true)
	seen.mu.Lock()
	seen.list = nil // an earlier loss does not count
	seen.mu.Unlock()
	waittest.Until(t, func() bool { return last() == "lost" }, "it is lost")
	proxy.silent.Store(false)
	waittest.Until(t, func() bool { return last() == "listening again" }, "it listens again")
}

// silentProxy forwards TCP until it goes silent: it then keeps its
// connections open, swallows what arrives, and answers nothing.
type silentProxy struct {
	net.Listener
	silent atomic.Bool
}

func newSilentProxy(t *testing.T, upstream string) *silentProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &silentProxy{Listener: l}
	var group sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	group.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", upstream)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, client, server)
			mu.Unlock()
			pump := func(to io.Writer, from io.Reader) {
				buffer := make([]byte, 4096)
				for {
					n, err := from.Read(buffer)
					if err != nil {
						return
					}
					if !p.silent.Load() {
						_, _ = to.Write(buffer[:n])
					}
				}
			}
			group.Go(func() { pump(server, client) })
			group.Go(func() { pump(client, server) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	return p
}
