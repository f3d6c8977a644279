package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// events records what a listener reports.
type events struct {
	mu    sync.Mutex
	list  []string
	usage atomic.Int64 // how often it was told how full the queue is
	round atomic.Int64 // how often the listener came round
}

func (e *events) add(event string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

func (e *events) Listening(reconnected bool) {
	if reconnected {
		e.add("listening again")
	} else {
		e.add("listening")
	}
}
func (e *events) Notified(payload string) { e.add("notified " + payload) }
func (e *events) Gather(bool)             {}
func (e *events) QueueUsage(float64)      { e.usage.Add(1) }
func (e *events) Lost(error)              { e.add("lost") }
func (e *events) CameRound()              { e.round.Add(1) }

func (e *events) waitFor(t *testing.T, want ...string) {
	t.Helper()
	waittest.Until(t, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.list) >= len(want)
	}, "%d events", len(want))
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Equal(t, want, e.list)
}

// start runs a listener until the end of the test.
func start(t *testing.T, l *Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// all is what observes the sessions, and handles a channel.
type all interface {
	Observer
	Handler
}

// handle makes the handler get the notifications of the one channel.
func handle(l *Listener, handler Handler) *Listener {
	l.Handle(pubsub.ProvidersChanged, handler)
	return l
}

// newListener returns a listener that takes no connection for lost because the
// machine is busy.
func newListener(t *testing.T, url string, all all) *Listener {
	t.Helper()
	l := handle(New(configOf(t, url), all, quiet), all)
	l.Probe(waittest.Patience, waittest.Patience)
	return l
}

func configOf(t *testing.T, url string) *pgx.ConnConfig {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	config.RuntimeParams["application_name"] = "listener-under-test"
	return config
}

func exec(t *testing.T, url, query string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), query, args...)
	require.NoError(t, err)
}

func TestListener(t *testing.T) {
	t.Parallel()
	t.Run("OrderAndReconnect", testListenerOrderAndReconnect)
	t.Run("Burst", testListenerBurst)
	t.Run("QuietConnection", testListenerQuietConnection)
	t.Run("RefusedSession", testListenerRefusedSession)
	t.Run("StopWhileConnecting", testListenerStopWhileConnecting)
	t.Run("BackOff", testListenerBackOff)
}

func testListenerOrderAndReconnect(t *testing.T) {
	t.Parallel()
	url := pgtest.NewDatabase(t)
	var seen events
	start(t, newListener(t, url, &seen))
	seen.waitFor(t, "listening")
	exec(t, url, "SELECT pg_notify('ai_providers_changed', x) FROM unnest(ARRAY['a','b']) x")
	seen.waitFor(t, "listening", "notified a", "notified b")
	exec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'listener-under-test'")
	seen.waitFor(t, "listening", "notified a", "notified b", "lost", "listening again")
	exec(t, url, "NOTIFY ai_providers_changed, 'c'")
	seen.waitFor(t, "listening", "notified a", "notified b", "lost", "listening again", "notified c")
}

// gatherings also records what is gathered.
type gatherings struct{ events }

func (g *gatherings) Gather(on bool) { g.add(fmt.Sprintf("gather %t", on)) }

func testListenerBurst(t *testing.T) {
	t.Parallel()
	url := pgtest.NewDatabase(t)
	var seen gatherings
	start(t, newListener(t, url, &seen))
	seen.waitFor(t, "listening")
	exec(t, url, "SELECT pg_notify('ai_providers_changed', n::text) FROM generate_series(1, 10000) n")
	want := []string{"listening", "notified 1", "gather true"}
	for n := 2; n <= 10000; n++ {
		want = append(want, fmt.Sprint("notified ", n))
	}
	seen.waitFor(t, append(want, "gather false")...)
}

func testListenerQuietConnection(t *testing.T) {
	t.Parallel()
	url := pgtest.NewDatabase(t)
	var seen events
	l := newListener(t, url, &seen)
	l.Probe(time.Millisecond, waittest.Patience)
	start(t, l)
	waittest.Until(t, func() bool { return seen.usage.Load() >= 5 }, "five probes")
	exec(t, url, "NOTIFY ai_providers_changed, 'a'")
	seen.waitFor(t, "listening", "notified a")
}

// onceRefused is a [Guard] that refuses the first session.
type onceRefused struct{ checked int }

func (g *onceRefused) Check(context.Context, *pgx.Conn) error {
	if g.checked++; g.checked == 1 {
		return errors.New("it is on another server")
	}
	return nil
}

func testListenerRefusedSession(t *testing.T) {
	t.Parallel()
	url := pgtest.NewDatabase(t)
	var seen events
	l := newListener(t, url, &seen)
	l.Guard(&onceRefused{})
	start(t, l)
	seen.waitFor(t, "lost", "listening")
	before := seen.round.Load()
	require.GreaterOrEqual(t, before, int64(4), "before each connection and on each")
	exec(t, url, "NOTIFY ai_providers_changed, 'a'")
	seen.waitFor(t, "lost", "listening", "notified a")
	waittest.Until(t, func() bool { return seen.round.Load() > before }, "it comes round after a notification")
}

func testListenerStopWhileConnecting(t *testing.T) {
	t.Parallel()
	var seen events
	u := url.URL{Scheme: "postgres", Host: "127.0.0.1:1", Path: "/db", RawQuery: "sslmode=disable"}
	l := handle(New(configOf(t, u.String()), &seen, quiet), &seen)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	waittest.Until(t, func() bool {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		return len(seen.list) >= 2
	}, "two attempts")
	cancel()
	waittest.Closed(t, ended, "the listener ends")
}

// moments records when a connection was lost.
type moments struct {
	events
	lost []time.Time
}

func (m *moments) Lost(error) { m.lost = append(m.lost, time.Now()) }

// testListenerBackOff runs on a clock of its own, with a dialer in the
// place of the network.
func testListenerBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen moments
		config := configOf(t, "postgres://127.0.0.1:1/db?sslmode=disable")
		config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
		l := handle(New(config, &seen, quiet), &seen)
		l.RetryWithin(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		l.Run(ctx)
		require.Greater(t, len(seen.lost), 40)
		require.Less(t, seen.lost[1].Sub(seen.lost[0]), time.Second, "the first wait is short")
		longest := time.Duration(0)
		for i := range seen.lost[1:] {
			longest = max(longest, seen.lost[i+1].Sub(seen.lost[i]))
		}
		require.Greater(t, longest, time.Minute/2)
		require.LessOrEqual(t, longest, time.Minute*3/2, "the limit and its jitter")
	})
}
