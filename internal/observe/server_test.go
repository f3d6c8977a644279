package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fixedHealth is the health that a test sets between requests.
type fixedHealth struct {
	alive, ready error
	remarks      []string
}

func (h *fixedHealth) Alive() error             { return h.alive }
func (h *fixedHealth) Ready() ([]string, error) { return h.remarks, h.ready }

func TestHTTPServer(t *testing.T) {
	t.Parallel()
	t.Run("Probes", testHTTPServerProbes)
	t.Run("SlowReader", testHTTPServerSlowReader)
	t.Run("LongRequest", testHTTPServerLongRequest)
}

func testHTTPServerProbes(t *testing.T) {
	var health fixedHealth
	server, err := Listen(t.Context(), "127.0.0.1:0", NewMetrics("test"), &health, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- server.Serve(ctx) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		t.Helper()
		response, err := client.Get("http://" + server.Address() + path)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	expect := func(path string, wantStatus int, wantBody string) {
		t.Helper()
		status, body := get(path)
		require.Equal(t, wantStatus, status)
		require.Equal(t, wantBody, body)
	}
	expect("/healthz", http.StatusOK, "ok\n")
	expect("/readyz", http.StatusOK, "ok\n")
	health.remarks = []string{"aws: cannot be compared: the reason"}
	expect("/readyz", http.StatusOK, "ok\naws: cannot be compared: the reason\n")
	health.remarks = nil
	health.ready = errors.New("the database is away")
	expect("/healthz", http.StatusOK, "ok\n")
	expect("/readyz", http.StatusServiceUnavailable, "not ready: the database is away\n")
	health.alive, health.ready = errors.New("the source has ended"), nil
	expect("/healthz", http.StatusServiceUnavailable, "not alive: the source has ended\n")
	expect("/readyz", http.StatusOK, "ok\n")
	cancel()
	require.NoError(t, <-served)
}

// testHTTPServerSlowReader asks for an answer that does not fit into the
// buffers of the connection.
func testHTTPServerSlowReader(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	server := httptest.NewServer(bounded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				ended <- err
				return
			}
		}
	}), 100*time.Millisecond))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	require.ErrorContains(t, <-ended, "timeout")
}

// testHTTPServerLongRequest has a request without a body, whose answer takes longer than a client
// may take to send a request.
func testHTTPServerLongRequest(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(bounded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			t.Error("the request was ended")
		case <-time.After(6 * time.Second): // longer than that
		}
		fmt.Fprint(w, "done")
	}), time.Minute))
	server.Config.ReadTimeout = 5 * time.Second
	server.Start()
	defer server.Close()
	response, err := http.Get(server.URL)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "done", string(body))
}
