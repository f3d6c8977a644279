//go:build e2e

package golden

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

// receiver is a webhook and an Alertmanager that keep what they are sent.
type receiver struct {
	url string

	mu     sync.Mutex
	refuse bool // alerts, at the webhook
	sent   []delivery
}

// delivery is a request to a [receiver].
type delivery struct {
	path   string
	header http.Header
	body   string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent = append(r.sent, delivery{request.URL.Path, request.Header, string(body)})
		if r.refuse && request.URL.Path == "/webhook" && bytes.Contains(body, []byte("dev.provwatch.drift.")) {
			out.WriteHeader(http.StatusGone)
		}
	}))
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

func (r *receiver) refuseAlerts(refuse bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = refuse
}

// first returns the first request to a path whose body holds the text.
func (r *receiver) first(t *testing.T, path, text string) (d delivery) {
	t.Helper()
	waittest.Until(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		at := slices.IndexFunc(r.sent, func(d delivery) bool { return d.path == path && strings.Contains(d.body, text) })
		if at >= 0 {
			d = r.sent[at]
		}
		return at >= 0
	}, "%s is sent %s", path, text)
	return d
}

// startNATS starts a NATS server in this process and returns its URL and a stream.
func startNATS(t *testing.T) (string, jetstream.Stream) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	require.NoError(t, err)
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(waittest.Patience))
	conn, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "GOLDEN", Subjects: []string{"provwatch.>"}})
	require.NoError(t, err)
	return s.ClientURL(), stream
}

// headerLines returns the headers that are not the HTTP library's.
func headerLines(header map[string][]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(header)) {
		value := strings.Join(header[name], ", ")
		switch name {
		case "Accept-Encoding", "Content-Length", "User-Agent":
			continue
		case "Webhook-Timestamp":
			value = "<Unix time>"
		case "Webhook-Signature":
			value = regexp.MustCompile(`^v1,[A-Za-z0-9+/]{43}=$`).ReplaceAllString(value, "v1,<signature>")
		}
		fmt.Fprintf(&b, "%s: %s\n", name, value)
	}
	return b.String()
}

// compareSinks compares the first alert and the first audit entry that each sink was sent.
func (w *world) compareSinks(r *receiver, stream jetstream.Stream) {
	w.t.Helper()
	var b strings.Builder
	for _, what := range []struct{ title, path, text string }{
		{"webhook: an alert", "/webhook", "dev.provwatch.drift.v1"},
		{"webhook: an audit entry", "/webhook", "dev.provwatch.audit.v1"},
		{"alertmanager: a drift", "/alertmanager/api/v2/alerts", `"labels":`},
	} {
		d := r.first(w.t, what.path, what.text)
		fmt.Fprintf(&b, "# %s\n%s\n%s\n\n", what.title, headerLines(d.header), pretty(d.body))
		kind, audited := strings.CutPrefix(what.text, "dev.provwatch.")
		if !audited {
			continue
		}
		kind, _, _ = strings.Cut(kind, ".")
		waittest.Until(w.t, func() bool {
			message, err := stream.GetLastMsgForSubject(w.t.Context(), "provwatch.golden."+kind+".>")
			return err == nil && message != nil
		}, "NATS has what is published of %s", kind)
		info, err := stream.Info(w.t.Context())
		require.NoError(w.t, err)
		for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
			message, err := stream.GetMsg(w.t.Context(), seq)
			require.NoError(w.t, err)
			if strings.HasPrefix(message.Subject, "provwatch.golden."+kind+".") && message.Header.Get("Nats-Msg-Id") == d.header.Get("Webhook-Id") {
				fmt.Fprintf(&b, "# nats: the same\nsubject %s\n%s\n", message.Subject, headerLines(message.Header))
				require.JSONEq(w.t, d.body, string(message.Data))
			}
		}
	}
	compare(w.t, "sinks.txt", w.text(b.String()))
}

// sinksHaveAll waits until each sink has what was published so far, and has stored it.
func (w *world) sinksHaveAll() {
	w.t.Helper()
	w.until("the sinks have all", `SELECT count(*) = 5 AND bool_and(seq = CASE stream
			WHEN 'drift' THEN (SELECT last_seq FROM provwatch.alert_counter) ELSE (SELECT last_seq FROM provwatch.audit_counter) END)
		AND NOT EXISTS (SELECT FROM provwatch.audit_outbox) FROM provwatch.sink_cursors`)
}
