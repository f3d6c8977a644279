//go:build soak

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// sinks are a webhook and a NATS server with JetStream that every worker sends to,
// each behind a proxy, and each of which fails at times.
type sinks struct {
	w             *world
	args          []string // of each worker
	webhook, nats *line

	mu       sync.Mutex
	mode     string // how the webhook fails, empty for not
	over     chan struct{}
	clock    int
	arrivals []*arrival // at the webhook

	options *server.Options
	server  *server.Server
}

func newSinks(w *world) *sinks {
	s := &sinks{w: w, options: &server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: w.t.TempDir(), NoSigs: true, NoLog: true,
	}}
	receiver := httptest.NewServer(http.HandlerFunc(s.receive))
	w.t.Cleanup(receiver.Close)
	s.startNATS()
	s.options.Port = s.server.Addr().(*net.TCPAddr).Port
	w.t.Cleanup(s.stopNATS)
	s.read(func(ctx context.Context, js jetstream.JetStream) {
		// Longer than a run, so that no repeat is to be seen.
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "SOAK", Subjects: []string{"provwatch.>"}, Duplicates: 2 * time.Hour})
		require.NoError(w.t, err)
	})
	s.webhook = newLine(w, "the webhook", receiver.Listener.Addr().String())
	s.nats = newLine(w, "NATS", s.server.Addr().String())
	w.t.Cleanup(s.webhook.proxy.Stop)
	w.t.Cleanup(s.nats.proxy.Stop)
	secret := filepath.Join(w.t.TempDir(), "secret")
	require.NoError(w.t, os.WriteFile(secret, []byte("webhook-"+secretMark+"-0123456789\n"), 0o600))
	s.args = []string{
		"--webhook-url=http://" + s.webhook.proxy.Listen + "/?token=" + secretMark, "--webhook-secret-file=" + secret,
		"--nats-url=nats://" + s.nats.proxy.Listen, "--nats-stream=SOAK",
	}
	return s
}

func (s *sinks) startNATS() {
	var err error
	s.server, err = server.NewServer(s.options)
	require.NoError(s.w.t, err)
	go s.server.Start()
	if !s.server.ReadyForConnections(30 * time.Second) {
		s.w.violate(ruleHistory, "the NATS server does not start")
	}
}

func (s *sinks) stopNATS() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// read calls do with a connection past the proxy.
func (s *sinks) read(do func(context.Context, jetstream.JetStream)) {
	conn, err := nats.Connect(s.server.ClientURL())
	require.NoError(s.w.t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(s.w.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	do(ctx, js)
}

// parseEvent reads a CloudEvent of the worker's.
func parseEvent(body []byte) (arrival, error) {
	var e struct {
		ID, Type, Subject, Sequence string
		Data                        struct{ Kind, Action string }
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return arrival{}, err
	}
	seq, err := strconv.ParseInt(e.Sequence, 10, 64)
	stream := strings.TrimSuffix(strings.TrimPrefix(e.Type, "dev.provwatch."), ".v1")
	return arrival{stream: stream, id: e.ID, provider: e.Subject, what: e.Data.Kind + e.Data.Action, seq: seq}, err
}

// receive is the webhook.
func (s *sinks) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // nobody has been sent it
	}
	a, err := parseEvent(body)
	if err != nil {
		s.w.violate(ruleSinkPhantom, "the webhook was sent no event: %v: %s", err, body)
	}
	s.w.mu.Lock()
	s.w.emitted.Write(append(body, '\n'))
	s.w.mu.Unlock()
	s.mu.Lock()
	s.clock++
	a.received = s.clock
	s.arrivals = append(s.arrivals, &a)
	mode, over := s.mode, s.over
	s.mu.Unlock()
	answer := func(refused bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clock++
		a.answered, a.refused = s.clock, refused
	}
	switch {
	case mode == "webhook-fails":
		w.WriteHeader([]int{500, 503, 429, 302}[a.seq%4])
		return
	case mode == "webhook-hangs":
		select {
		case <-over:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler) // to return would be an answer
	case mode == "webhook-breaks-off":
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "{")
		panic(http.ErrAbortHandler)
	case mode == "webhook-refuses" && a.seq%3 == 0:
		answer(true)
		w.WriteHeader(http.StatusGone)
		return
	case mode == "webhook-slow":
		pause(r.Context(), time.Duration(50+a.seq%400)*time.Millisecond)
	}
	// Acknowledged, whether or not the worker hears of it.
	answer(false)
	w.WriteHeader(http.StatusNoContent)
}

// fail makes the sinks fail, one after the other, until ctx ends.
func (s *sinks) fail(ctx context.Context, moments []fault) {
	for i, f := range moments {
		if !pause(ctx, f.pause) {
			return
		}
		name := fmt.Sprintf("moment-%d", i)
		switch f.kind {
		case "webhook-down":
			s.webhook.unplug()
			pause(ctx, f.length)
			s.webhook.replug()
		case "nats-down":
			s.nats.unplug()
			pause(ctx, f.length)
			s.nats.replug()
		case "nats-silence":
			mend := both(s.nats, name, "timeout", `{"timeout": 0}`)
			pause(ctx, f.length)
			mend()
		case "nats-slow":
			mend := both(s.nats, name, "latency", fmt.Sprintf(`{"latency": %d, "jitter": 50}`, 50+f.n%300))
			pause(ctx, f.length)
			mend()
		case "nats-restart":
			s.stopNATS()
			pause(ctx, time.Duration(f.n)*time.Millisecond)
			s.startNATS()
		default:
			s.mu.Lock()
			s.mode, s.over = f.kind, make(chan struct{})
			s.mu.Unlock()
			pause(ctx, f.length)
			s.mu.Lock()
			s.mode = ""
			close(s.over)
			s.mu.Unlock()
		}
		s.w.count(f.kind, true)
	}
}

// sinksBehind says which sinks have not got everything, empty for none.
func (w *world) sinksBehind() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.url())
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close(ctx) }()
	var behind string
	if err := conn.QueryRow(ctx, `SELECT coalesce(string_agg(format('sink %s has %s up to %s of %s', sink, stream, seq, last), '; '), '') FROM (
		SELECT *, CASE stream WHEN 'drift' THEN (SELECT max(seq) FROM provwatch.drift_alerts) ELSE (SELECT max(seq) FROM provwatch.audit_log) END AS last
		FROM provwatch.sink_cursors) AS c WHERE seq < last`).Scan(&behind); err != nil {
		return err.Error()
	}
	return behind
}

// checkSinks holds what the sinks got against what was committed.
func (w *world) checkSinks(r *report) {
	conn, err := pgx.Connect(context.Background(), w.url())
	require.NoError(w.t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	letters := map[string][]string{}
	rows, err := conn.Query(context.Background(), "SELECT sink, event_id::text FROM provwatch.sink_dead_letters")
	require.NoError(w.t, err)
	var sink, id string
	_, err = pgx.ForEachRow(rows, []any{&sink, &id}, func() error {
		letters[sink] = append(letters[sink], id)
		r.DeadLetters++
		return nil
	})
	require.NoError(w.t, err)

	webhook, stream := delivery{sink: "webhook", letters: letters["webhook"]}, delivery{sink: "nats", letters: letters["nats"], once: true}
	w.sinks.mu.Lock()
	for _, a := range w.sinks.arrivals {
		webhook.arrivals = append(webhook.arrivals, *a)
	}
	w.sinks.mu.Unlock()
	var bodies [][]byte
	w.sinks.read(func(ctx context.Context, js jetstream.JetStream) {
		s, err := js.Stream(ctx, "SOAK")
		require.NoError(w.t, err)
		info, err := s.Info(ctx)
		require.NoError(w.t, err)
		for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
			m, err := s.GetMsg(ctx, seq)
			require.NoError(w.t, err)
			bodies = append(bodies, m.Data)
		}
	})
	for i, body := range bodies {
		w.emitted.Write(append(body, '\n'))
		a, err := parseEvent(body)
		if err != nil {
			w.found = append(w.found, violation{Rule: ruleSinkPhantom, Detail: fmt.Sprintf("nats: no event: %v: %s", err, body)})
		}
		a.received, a.answered = i+1, i+1
		stream.arrivals = append(stream.arrivals, a)
	}
	r.Deliveries = len(webhook.arrivals) + len(stream.arrivals)
	w.found = append(w.found, w.checker.checkDelivery(webhook)...)
	w.found = append(w.found, w.checker.checkDelivery(stream)...)
}
