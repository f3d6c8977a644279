package web_test

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
	"provwatch/internal/web"
)

// stream opens a stream of events and returns its lines. It ends with ctx.
func stream(t *testing.T, ctx context.Context, server *httptest.Server) (int, <-chan string) {
	t.Helper()
	return streamOf(t, ctx, server, "/events")
}

func streamOf(t *testing.T, ctx context.Context, server *httptest.Server, path string) (int, <-chan string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
	require.NoError(t, err)
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		defer func() { _ = response.Body.Close() }()
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return response.StatusCode, lines
}

func TestEvents(t *testing.T) {
	t.Run("AllListeners", testEventsAllListeners)
	t.Run("Limit", testEventsLimit)
	t.Run("OneASecond", testEventsOneASecond)
	t.Run("SlowClient", testEventsSlowClient)
}

func testEventsAllListeners(t *testing.T) {
	page, server := serve(t, local, nil)
	page.Changed(web.Alerts) // no client listens
	code, lines := stream(t, t.Context(), server)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "retry: 2000", <-lines)
	require.Empty(t, <-lines)
	page.Changed(web.Alerts | web.Audit)
	require.Equal(t, "event: change", <-lines)
	require.Equal(t, "data: alerts audit", <-lines)
	require.Empty(t, <-lines)
	page.Close()
	_, open := <-lines
	require.False(t, open, "the stream has ended")
	code, lines = stream(t, t.Context(), server)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "the worker is stopping", <-lines)
}

// testEventsLimit checks that streams are limited, and that a stream that ends makes room.
func testEventsLimit(t *testing.T) {
	_, server := serve(t, local, nil)
	server.Client().Transport.(*http.Transport).MaxConnsPerHost = 0
	ctx, cancel := context.WithCancel(t.Context())
	var all []<-chan string
	for range 100 {
		code, lines := stream(t, ctx, server)
		require.Equal(t, http.StatusOK, code)
		all = append(all, lines)
	}
	code, lines := stream(t, t.Context(), server)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "too many clients have the page open", <-lines)
	cancel()
	for _, lines := range all {
		for range lines {
		}
	}
	waittest.Until(t, func() bool {
		once, cancel := context.WithCancel(t.Context())
		defer cancel()
		code, _ := stream(t, once, server)
		return code == http.StatusOK
	}, "there is room")
}

// recorder is a client of a stream, at whose writes time does not pass.
type recorder struct {
	http.ResponseWriter
	written chan string
	stall   chan struct{} // nil: it reads
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.stall != nil {
		<-r.stall
	}
	r.written <- string(b)
	return len(b), nil
}

func (r *recorder) Flush() {}

func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// testEventsOneASecond runs on a clock of its own.
func testEventsOneASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := web.New(web.Options{Access: local, Logger: slog.New(slog.DiscardHandler)})
		client := &recorder{ResponseWriter: httptest.NewRecorder(), written: make(chan string, 1000)}
		request := httptest.NewRequest(http.MethodGet, "http://localhost/events", nil)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			page.ServeHTTP(client, request)
		}()
		synctest.Wait()
		require.Contains(t, <-client.written, "retry")
		began := time.Now()
		for range 10_000 { // for 10 seconds
			page.Changed(web.Alerts)
			page.Changed(web.Resync)
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		events := len(client.written)
		require.InDelta(t, 10, events, 1)
		// The first at once, and what comes after it together.
		require.Equal(t, "event: change\ndata: alerts\n\n", <-client.written)
		require.Equal(t, "event: change\ndata: alerts resync\n\n", <-client.written)
		for len(client.written) > 0 {
			<-client.written
		}
		// The last change is sent, and then a heartbeat every 15 seconds.
		time.Sleep(2 * time.Second)
		for len(client.written) > 0 {
			<-client.written
		}
		time.Sleep(time.Until(began.Add(61 * time.Second)))
		synctest.Wait()
		require.Len(t, client.written, 4)
		require.Equal(t, ":\n\n", <-client.written)
		page.Close()
		<-ended
	})
}

// testEventsSlowClient checks that a slow client is dropped and delays no other.
func testEventsSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := web.New(web.Options{Access: local, Logger: slog.New(slog.DiscardHandler)})
		slow := &recorder{ResponseWriter: httptest.NewRecorder(), written: make(chan string, 1000), stall: make(chan struct{})}
		quick := &recorder{ResponseWriter: httptest.NewRecorder(), written: make(chan string, 1000)}
		ended := make(chan *recorder, 2)
		for _, client := range []*recorder{slow, quick} {
			go func() {
				page.ServeHTTP(client, httptest.NewRequest(http.MethodGet, "http://localhost/events", nil))
				ended <- client
			}()
		}
		synctest.Wait()
		for range 5 {
			page.Changed(web.Health)
			time.Sleep(2 * time.Second)
		}
		synctest.Wait()
		require.Len(t, quick.written, 1+5)
		// What it had been given when it was dropped is all that it gets.
		close(slow.stall)
		require.Same(t, slow, <-ended)
		require.LessOrEqual(t, len(slow.written), 2)
		page.Close()
		<-ended
	})
}
