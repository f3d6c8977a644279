package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/silence"
	"provwatch/internal/sink"
	"provwatch/internal/status"
	"provwatch/internal/waittest"
	"provwatch/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef-token"

var local = web.Access{Loopback: true}

// source is a worker, and what is collected from its database.
type source struct {
	collect func(context.Context, status.Query) (status.Status, error)
	worker  status.Worker
	asked   atomic.Int32 // how often Worker was called
}

func (s *source) Collect(ctx context.Context, query status.Query) (status.Status, error) {
	return s.collect(ctx, query)
}

func (s *source) Worker() status.Worker {
	s.asked.Add(1)
	return s.worker
}

// serve serves a page of an empty database, as changed by options.
func serve(t *testing.T, access web.Access, collect func(context.Context, status.Query) (status.Status, error)) (*web.Page, *httptest.Server) {
	t.Helper()
	if collect == nil {
		collect = func(context.Context, status.Query) (status.Status, error) { return status.Status{At: time.Now()}, nil }
	}
	return serveSource(t, access, &source{collect: collect, worker: status.Worker{ID: "the worker", Started: time.Now()}})
}

func serveSource(t *testing.T, access web.Access, shown *source) (*web.Page, *httptest.Server) {
	t.Helper()
	page := web.New(web.Options{Source: shown, Access: access, Logger: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(page)
	t.Cleanup(server.Close)
	t.Cleanup(page.Close)
	return page, server
}

func get(t *testing.T, server *httptest.Server, path string, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	require.NoError(t, err)
	for _, c := range change {
		c(request)
	}
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(body)
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func TestPage(t *testing.T) {
	t.Run("EscapesAndCuts", testPageEscapesAndCuts)
	t.Run("NotComparable", testPageNotComparable)
	t.Run("NotLoaded", testPageNotLoaded)
	t.Run("Query", testPageQuery)
	t.Run("Sinks", testPageSinks)
	t.Run("Silences", testPageSilences)
	t.Run("Notices", testPageNotices)
	t.Run("NoFields", testPageNoFields)
	t.Run("Health", testPageHealth)
	t.Run("NoDatabase", testPageNoDatabase)
	t.Run("SharedCollection", testPageSharedCollection)
}

func testPageEscapesAndCuts(t *testing.T) {
	evil := `<script>alert(1)</script>` + "\u202e" + "\x1b[31m"
	long := strings.Repeat("ä", 10_000)
	_, server := serve(t, local, func(context.Context, status.Query) (status.Status, error) {
		fields := []drift.Field{{Name: evil, Env: long, DB: `"><img src=x onerror=alert(1)>`}}
		return status.Status{
			At:       time.Now(),
			Database: status.Database{Name: evil, Workers: []status.Session{{PID: 1, Role: evil, Leads: true}}},
			Counts:   map[status.State]int{status.Drifted: 1},
			Providers: []status.Provider{{
				Name: evil, State: status.Drifted, Kind: drift.Changed, BaseURL: "javascript:alert(1)", Fields: fields,
			}},
			Alerts: []status.Alert{{Seq: 1, Provider: evil, Kind: drift.Kind(evil), Fields: fields}},
			Audit:  []status.AuditEntry{{Seq: 1, Provider: evil, Actor: evil, Action: audit.Action(evil), Details: audit.Details{Type: evil}}},
			Sinks:  []sink.Progress{{Sink: evil, Stream: sink.Stream(evil), DeadLetters: 1}},
			DeadLetters: []sink.DeadLetter{
				{Sink: evil, Stream: sink.Stream(evil), Provider: evil, Reason: evil}, {Provider: long, Reason: long},
			},
		}, nil
	})
	response, body := get(t, server, "/?q="+`%22%3E%3Cscript%3E`)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.NotContains(t, body, "<script>alert")
	require.NotContains(t, body, "<img")
	require.NotContains(t, body, `"><script>`)
	require.NotContains(t, body, "\u202e")
	require.NotContains(t, body, "\x1b")
	require.Contains(t, body, `\u202e`)
	require.NotContains(t, body, "javascript:alert(1)\"", "in a link")
	require.NotContains(t, body, strings.Repeat("ä", 251))
	require.Contains(t, body, strings.Repeat("ä", 250)+"…")
}

func testPageNotLoaded(t *testing.T) {
	shown := &source{
		collect: func(context.Context, status.Query) (status.Status, error) { return status.Status{At: time.Now()}, nil },
		worker:  status.Worker{NotLoaded: []string{"/etc/<b>.env", "/run/key"}},
	}
	_, server := serveSource(t, local, shown)
	_, body := get(t, server, "/")
	require.Contains(t, body, "/etc/&lt;b&gt;.env on disk is not what is loaded")
	require.Contains(t, text(body), "▲ /run/key on disk is not what is loaded")
}

func testPageNotComparable(t *testing.T) {
	shown := &source{
		collect: func(context.Context, status.Query) (status.Status, error) {
			return status.Status{
				At: time.Now(), Counts: map[status.State]int{status.NotComparable: 1},
				Providers: []status.Provider{{Name: "aws", State: status.NotComparable, Fields: []drift.Field{{Name: "row", DB: "the reason"}}}},
			}, nil
		},
		worker: status.Worker{Leads: true, NotComparable: []string{"aws: <b>the reason</b>"}},
	}
	_, server := serveSource(t, local, shown)
	_, body := get(t, server, "/")
	require.Contains(t, body, "Providers that cannot be compared.")
	require.Contains(t, body, "aws: &lt;b&gt;the reason")
	require.Contains(t, text(body), "1 ! not comparable")
	require.Contains(t, body, `href="./?state=not_comparable#providers"`)
	require.Contains(t, text(body), "aws ! not comparable")
}

func testPageQuery(t *testing.T) {
	var asked atomic.Pointer[status.Query]
	_, server := serve(t, local, func(_ context.Context, q status.Query) (status.Status, error) {
		asked.Store(&q)
		return status.Status{
			At: time.Now(), MoreProviders: true, Next: status.Cursor{State: status.InSync, Name: "z"},
			Providers: []status.Provider{{Name: "z", State: status.InSync}}, Counts: map[status.State]int{},
			Alerts: []status.Alert{{Seq: 7}}, MoreAlerts: true, Audit: []status.AuditEntry{{Seq: 5}},
		}, nil
	})
	_, body := get(t, server, "/?state=in_sync&q=a%26b&after=in_sync:x:y&alerts_before=12&audit_before=x")
	require.Equal(t, status.Query{
		States: []status.State{status.InSync}, Search: "a&b", After: status.Cursor{State: status.InSync, Name: "x:y"}, AlertsBefore: 12,
		Providers: 100, Alerts: 100, Audit: 100,
	}, *asked.Load())
	for _, link := range []string{
		`href="./?after=in_sync%3Az&amp;alerts_before=12&amp;q=a%26b&amp;state=in_sync#providers"`,
		`href="./?alerts_before=12&amp;q=a%26b&amp;state=in_sync#providers"`,
		`href="./?after=in_sync%3Ax%3Ay&amp;alerts_before=7&amp;q=a%26b&amp;state=in_sync#alerts"`,
		`href="./?after=in_sync%3Ax%3Ay&amp;q=a%26b&amp;state=in_sync#alerts"`,
	} {
		require.Contains(t, body, link)
	}
	// What cannot be used counts as not given.
	_, _ = get(t, server, "/?state=other&q=%00%ff"+strings.Repeat("a", 500)+"&after=other:x&alerts_before=-1&audit_before=99999999999999999999")
	require.Equal(t, status.Query{Search: strings.Repeat("a", 200), Providers: 100, Alerts: 100, Audit: 100}, *asked.Load())
}

// testPageSinks reads the section and its place in the navigation.
func testPageSinks(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	answers := map[string]status.Status{
		"none": {},
		"some": {
			Sinks: []sink.Progress{
				{Sink: "alertmanager", Stream: sink.Drift, Seq: 6},
				{Sink: "nats", Stream: sink.Drift, Seq: 7, MovedAt: at},
				{Sink: "webhook", Stream: sink.Drift, Seq: 4, Behind: 3, MovedAt: at},
				{Sink: "webhook", Stream: sink.Audit, Seq: 9, Behind: 2, DeadLetters: 21, MovedAt: at},
			},
			DeadLetters: []sink.DeadLetter{
				{Sink: "webhook", Stream: sink.Audit, Seq: 8, Provider: "openai", Reason: "HTTP 410 Gone", Attempts: 2, At: at, Retry: true},
			},
		},
		"unread": {SinksUnread: "GRANT SELECT ON TABLE provwatch.sink_cursors TO somebody;"},
	}
	_, server := serve(t, local, func(_ context.Context, q status.Query) (status.Status, error) { return answers[q.Search], nil })
	_, body := get(t, server, "/?q=none")
	require.NotContains(t, strings.ToLower(body), "sink")
	_, body = get(t, server, "/?q=some")
	section := text(body)
	for _, says := range []string{
		"Audit Sinks Health",
		"alertmanager stream drift ◌ nothing sent yet events behind 0 dead letters 0 last moved not yet, at #6",
		"nats stream drift ● delivering events behind 0 dead letters 0 last moved 2026-07-01 12:00:00 , to #7",
		"webhook stream drift ▲ behind events behind 3 dead letters 0 ",
		"webhook stream audit ▲ dead letters events behind 2 dead letters 21 ",
		"Dead letters, the latest first, 1 of 21.",
		"webhook #8 stream audit 2026-07-01 12:00:00 openai attempts: 2 retry requested HTTP 410 Gone",
	} {
		require.Contains(t, section, says)
	}
	require.Contains(t, body, `<span class="state accepted"><span class="sign" aria-hidden="true">◌</span> nothing sent yet</span>`)
	require.Equal(t, 2, strings.Count(body[strings.Index(body, `id="sinks"`):], "<caption>"))
	_, body = get(t, server, "/?q=unread")
	require.Contains(t, text(body), "Sinks How far sinks are cannot be read. GRANT SELECT ON TABLE provwatch.sink_cursors TO somebody; Health")
	require.Contains(t, body, `href="#sinks"`)
}

func testPageSilences(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	until := at.Add(2 * time.Hour)
	shown := status.Status{
		Providers: []status.Provider{{Name: "openai", State: status.Drifted, Kind: drift.Changed, SilencedUntil: &until}},
		Alerts: []status.Alert{
			{Seq: 8, Kind: drift.Changed, Provider: "openai", Repeats: 7, DetectedAt: at}, {Seq: 7, Kind: drift.Changed, Provider: "openai", Silenced: true, DetectedAt: at},
		},
	}
	_, server := serve(t, local, func(context.Context, status.Query) (status.Status, error) { return shown, nil })
	_, body := get(t, server, "/")
	require.NotContains(t, body, `id="silences"`)
	require.NotContains(t, body, `href="#silences"`)
	shown.Silences = []silence.Silence{
		{ID: 3, Provider: silence.All, Author: "operator:role=ops", Reason: "<b>upgrade</b>", Begins: at, Ends: until}, {ID: 4, Provider: "openai", Begins: at, Ends: until},
	}
	shown.MoreSilences = true
	_, body = get(t, server, "/")
	require.NotContains(t, body, "<b>")
	require.Contains(t, body, `href="#silences"`)
	page := text(body)
	for _, says := range []string{
		"▲ changed, silenced silenced until 2026-07-01 14:00:00", "no differences repeats #7", "no differences silenced",
		"Silences that last, the first to end first; worker silences lists more. worker unsilence ID ends one.",
		"3 until 2026-07-01 14:00:00 all providers &lt;b&gt;upgrade&lt;/b&gt; by operator:role=ops since 2026-07-01 12:00:00", "4 until 2026-07-01 14:00:00 openai ",
	} {
		require.Contains(t, page, says)
	}
}

func testPageNotices(t *testing.T) {
	var notices []provider.Notice
	_, server := serve(t, local, func(context.Context, status.Query) (status.Status, error) {
		return status.Status{Notices: notices}, nil
	})
	_, body := get(t, server, "/")
	require.NotContains(t, body, "notices")
	for i := range 60 {
		notices = append(notices, provider.Notice{Provider: fmt.Sprintf("<b>%d", i), Problem: "it has no <keys>", Remedy: "add one"})
	}
	_, body = get(t, server, "/")
	require.Contains(t, text(body), "The gateway does not serve these providers as their rows suggest. &lt;b&gt;0 : it has no &lt;keys&gt;; add one ")
	require.Equal(t, 50, strings.Count(body, "; add one"))
	require.Contains(t, text(body), "and 10 more")
}

// testPageNoFields checks that a drift without fields is explained.
func testPageNoFields(t *testing.T) {
	_, server := serve(t, local, func(context.Context, status.Query) (status.Status, error) {
		return status.Status{
			Providers: []status.Provider{
				{Name: "gone", State: status.Drifted, Kind: drift.Missing}, {Name: "renamed", State: status.Drifted, Kind: drift.Missing, RenamedTo: "<b>"},
				{Name: "rogue", State: status.Drifted, Kind: drift.Unmanaged}, {Name: "known", State: status.Unmanaged}, {Name: "synced", State: status.InSync},
			},
			Alerts: []status.Alert{
				{Seq: 3, Provider: "rogue", Kind: drift.Unmanaged, Fields: []drift.Field{{Name: "type", DB: "openai"}}},
				{Seq: 2, Provider: "gone", Kind: drift.Resolved}, {Seq: 1, Provider: "gone", Kind: drift.Missing},
			},
			Audit: []status.AuditEntry{{Seq: 1, Provider: "rogue", Details: audit.Details{Kind: string(drift.Unmanaged), Changes: []audit.Change{{Field: "type", New: "openai"}}}}},
		}, nil
	})
	_, body := get(t, server, "/")
	for _, says := range []string{
		"gone ▲ missing no row renamed ▲ missing no row, renamed to &lt;b&gt; rogue ▲ unmanaged, alerted the environment does not name it",
		"known ◆ unmanaged the environment does not name it synced ● in sync no differences",
		"rogue ▲ unmanaged type environment - database openai",
		"drift unmanaged type - → openai",
		"gone ● resolved the drift has ended",
		"gone ▲ missing no row Audit",
	} {
		require.Contains(t, text(body), says)
	}
}

// text returns the text of a page, without its tags.
func text(page string) string {
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")), " ")
}

// testPageHealth checks that the header shows the worker's health.
func testPageHealth(t *testing.T) {
	for want, worker := range map[string]status.Worker{
		`class="state in_sync"><span class="sign" aria-hidden="true">●</span> ready<`:                     {Providers: 1},
		`class="state accepted"><span class="sign" aria-hidden="true">◌</span> ready, without providers<`: {},
		`class="state drifted"><span class="sign" aria-hidden="true">▲</span> not ready<`:                 {NotReady: "not listening: the reason"},
	} {
		_, server := serveSource(t, local, &source{worker: worker, collect: func(context.Context, status.Query) (status.Status, error) {
			return status.Status{At: time.Now()}, nil
		}})
		_, body := get(t, server, "/")
		require.Contains(t, body, `<span id="worker-health" `+want)
		require.Contains(t, body, `<dt>State</dt><dd><span `+want, "the facts of the worker say the same")
	}
}

func testPageNoDatabase(t *testing.T) {
	_, server := serve(t, local, func(context.Context, status.Query) (status.Status, error) {
		return status.Status{}, errors.New("the database is away")
	})
	response, body := get(t, server, "/")
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Contains(t, body, "the database is away")
	require.Contains(t, body, "the worker")
	require.Contains(t, body, `<span id="worker-health" class="state drifted"><span class="sign" aria-hidden="true">▲</span> database cannot be read</span>`)
	require.NotContains(t, body, `id="providers"`)
}

// testPageSharedCollection has many ask at once, while one collection is under way that
// began before they came.
func testPageSharedCollection(t *testing.T) {
	var collecting, most, collected atomic.Int32
	release, began := make(chan struct{}), make(chan struct{}, 100)
	shown := &source{collect: func(context.Context, status.Query) (status.Status, error) {
		most.Store(max(most.Load(), collecting.Add(1)))
		defer collecting.Add(-1)
		collected.Add(1)
		began <- struct{}{}
		<-release
		return status.Status{At: time.Now()}, nil
	}}
	_, server := serveSource(t, local, shown)
	answers := make(chan int, 60)
	ask := func(path string) {
		go func() {
			response, err := server.Client().Get(server.URL + path)
			if err != nil {
				answers <- 0
				return
			}
			_ = response.Body.Close()
			answers <- response.StatusCode
		}()
	}
	ask("/")
	<-began
	for range 50 {
		ask("/")
	}
	for i := range 3 {
		ask(fmt.Sprintf("/?q=%d", i))
	}
	// The worker is asked just before the collection.
	waittest.Until(t, func() bool { return shown.asked.Load() == 54 }, "all have asked")
	close(release)
	for range 54 {
		require.Equal(t, http.StatusOK, <-answers)
	}
	require.EqualValues(t, 1, most.Load())
	// Requests that came while the first was under way can have come in several lots.
	require.GreaterOrEqual(t, collected.Load(), int32(2+3))
	require.Less(t, collected.Load(), int32(54))
}
