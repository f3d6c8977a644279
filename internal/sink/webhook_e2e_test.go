//go:build e2e

package sink

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWebhookRetries lets the first tries of a provider's events fail in the way of its
// name.
func TestWebhookRetries(t *testing.T) {
	t.Parallel()
	status := func(code int, header ...string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	hijacked := func(do func(net.Conn)) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				do(conn)
				_ = conn.Close()
			}
		}
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect is followed") }))
	t.Cleanup(elsewhere.Close)
	ways := map[string]func(http.ResponseWriter, *http.Request){
		"closes":                 hijacked(func(net.Conn) {}),
		"resets":                 hijacked(func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }),
		"no HTTP":                hijacked(func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH\r\n")) }),
		"half a body":            hijacked(func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")) }),
		"500":                    status(500),
		"502":                    status(502),
		"503 with Retry-After":   status(503, "Retry-After", "0"),
		"408":                    status(408),
		"425":                    status(425),
		"429 with a date":        status(429, "Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
		"429 with no such thing": status(429, "Retry-After", "soon"),
		"a redirect":             status(307, "Location", elsewhere.URL),
		"hangs":                  func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"hangs within the body": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	}
	f := newFeed(t)
	var mu sync.Mutex
	failed := map[string]int{}
	c := newConsumer(t, func(w http.ResponseWriter, r *http.Request, e received) bool {
		mu.Lock()
		fails := failed[e.provider] < 2
		failed[e.provider]++
		mu.Unlock()
		if fails {
			ways[e.provider](w, r)
		}
		return fails
	})
	c.server.Start()
	for way := range ways {
		f.alert("missing "+way, "resolved "+way)
	}
	runner, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
	stop()
	runner.shared.sendTimeout = 300 * time.Millisecond // of a consumer that hangs
	f.runAgain(runner)
	for way := range ways {
		// A consumer that answers too late on a busy machine gets the event once more.
		gets := func() []string {
			return slices.Compact(slices.DeleteFunc(c.got(Drift), func(e string) bool { return !strings.HasSuffix(e, " "+way) }))
		}
		eventually(t, func() bool { return len(gets()) >= 2 }, "events of a sink that %s", way)
		require.Equal(t, []string{"missing " + way, "resolved " + way}, gets())
	}
	require.GreaterOrEqual(t, f.metrics.of("failed webhook drift"), 2*len(ways))
	require.Empty(t, f.letters())
	eventually(t, func() bool { return f.cursor("webhook", Drift) == int64(2*len(ways)) }, "the cursor is at the end")
}

// runAgain runs a runner that was stopped.
func (f *feed) runAgain(runner *Runner) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		runner.Run(ctx, f)
	}()
	f.t.Cleanup(func() { cancel(); <-done })
}
