//go:build e2e

package observe

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

// TestSlowClients has more clients than there may be connections, each of
// which sends its request a byte at a time.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	server, err := Listen(t.Context(), "127.0.0.1:0", NewMetrics("test"), &fixedHealth{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	var group conc.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	group.Go(func() { _ = server.Serve(ctx) })
	var slow []net.Conn
	for range maxConnections + 50 {
		conn, err := net.Dial("tcp", server.Address())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		slow = append(slow, conn)
		_, err = fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
		require.NoError(t, err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	probe := func() {
		t.Helper()
		for _, path := range []string{"/healthz", "/readyz"} {
			response, err := client.Get("http://" + server.Address() + path)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, response.StatusCode)
			_ = response.Body.Close()
		}
	}
	probe()
	ended := map[net.Conn]bool{}
	waittest.Until(t, func() bool {
		probe()
		for _, conn := range slow {
			if _, err := conn.Write([]byte("x")); err != nil {
				ended[conn] = true
			}
		}
		return len(ended) == len(slow)
	}, "the server ends the connections of slow clients")
}
