package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
	"provwatch/internal/sink"
	"provwatch/internal/status"
	"provwatch/internal/waittest"
	"provwatch/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef-token"

var local = web.Access{Loopback: true}

// serve serves a page of an empty database, as changed by options.
func serve(t *testing.T, access web.Access, collect func(context.Context, status.Query) (status.Status, error)) (*web.Page, *httptest.Server) {
	t.Helper()
	if collect == nil {
		collect = func(context.Context, status.Query) (status.Status, error) { return status.Status{At: time.Now()}, nil }
	}
	page := web.New(web.Options{
		Collect: collect, Worker: func() status.Worker { return status.Worker{ID: "the worker", Started: time.Now()} },
		Access: access, Logger: slog.New(slog.DiscardHandler),
	})
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

func TestWhoMaySeeThePage(t *testing.T) {
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	withToken := web.Access{Token: secret.New(token)}
	for name, c := range map[string]struct {
		access web.Access
		change func(*http.Request)
		want   int
		says   string
	}{
		"on loopback as localhost":              {local, host("localhost:9464"), 200, ""},
		"on loopback as Localhost, no port":     {local, host("Localhost"), 200, ""},
		"on loopback by IPv4":                   {local, host("127.0.0.1:9464"), 200, ""},
		"on loopback by IPv6":                   {local, host("[::1]:9464"), 200, ""},
		"on loopback by a name that leads here": {local, host("attacker.example:9464"), 403, "--http-token-file"},
		"on loopback by a name like ours":       {local, host("localhost.attacker.example"), 403, "--http-token-file"},
		"on loopback by another address":        {local, host("192.0.2.1:9464"), 403, "--http-token-file"},
		"on loopback, part of another site":     {local, header("Sec-Fetch-Site", "cross-site"), 403, "Another site"},
		"on loopback, linked from elsewhere": {local, func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
		}, 200, ""},
		"elsewhere without a token":             {web.Access{}, host("localhost"), 403, "--http-token-file"},
		"elsewhere with any":                    {web.Access{}, header("Authorization", "Bearer "), 403, "--http-token-file"},
		"with a token, not shown":               {withToken, host("worker.example"), 401, "bearer token"},
		"with a token, on loopback, not shown":  {web.Access{Token: secret.New(token), Loopback: true}, host("localhost"), 401, "bearer token"},
		"with a token, as bearer":               {withToken, header("Authorization", "Bearer "+token), 200, ""},
		"with a token, as bearer in lower case": {withToken, header("Authorization", "bearer "+token), 200, ""},
		"with a token, as password":             {withToken, basic("anybody", token), 200, ""},
		"with a token, as user":                 {withToken, basic(token, ""), 401, "bearer token"},
		"with a token, its beginning":           {withToken, header("Authorization", "Bearer "+token[:len(token)-1]), 401, "bearer token"},
		"with a token, and more":                {withToken, basic("", token+"x"), 401, "bearer token"},
		"with a token, by another scheme":       {withToken, header("Authorization", "Digest "+token), 401, "bearer token"},
	} {
		t.Run(name, func(t *testing.T) {
			_, server := serve(t, c.access, nil)
			for _, path := range []string{"/", "/style.css", "/script.js"} {
				response, body := get(t, server, path, c.change)
				require.Equal(t, c.want, response.StatusCode, path)
				require.Contains(t, body, c.says)
				require.NotContains(t, body, token)
				require.Equal(t, c.want == 401, response.Header.Get("WWW-Authenticate") != "")
			}
			if c.want != 200 {
				response, _ := get(t, server, "/events", c.change)
				require.Equal(t, c.want, response.StatusCode, "/events")
			}
		})
	}
}

func TestAnAddressIsLoopbackOnlyIfNobodyElseCanConnect(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "127.1.2.3": true, "::1": true, "0.0.0.0": false, "::": false, "192.0.2.1": false} {
		require.Equal(t, want, web.IsLoopback(&net.TCPAddr{IP: net.ParseIP(address)}), address)
	}
}

func TestATokenIsReadFromAFileAndRefusedWithoutShowingIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	_, err := web.ReadToken(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	for content, want := range map[string]string{
		token + "\n":                 "",
		token + "\r\n\n":             "",
		"short-and-sweet":            "16 characters or more",
		"":                           "16 characters or more",
		"two words of a long token":  "without spaces",
		"schlüsselwort-das-lang-ist": "printable ASCII",
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		read, err := web.ReadToken(path)
		if want == "" {
			require.NoError(t, err)
			require.Equal(t, token, read.Reveal())
			continue
		}
		require.ErrorContains(t, err, want)
		if content != "" {
			require.NotContains(t, err.Error(), content)
		}
	}
}

func TestEveryAnswerHasTheHeadersThatKeepItToItself(t *testing.T) {
	_, server := serve(t, local, nil)
	for _, path := range []string{"/", "/style.css", "/script.js", "/nothing"} {
		for _, name := range []string{"localhost", "attacker.example"} {
			response, _ := get(t, server, path, host(name))
			h := response.Header
			require.Equal(t, "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
				h.Get("Content-Security-Policy"))
			require.Equal(t, []string{"nosniff", "no-referrer", "no-store", "same-origin"},
				[]string{h.Get("X-Content-Type-Options"), h.Get("Referrer-Policy"), h.Get("Cache-Control"), h.Get("Cross-Origin-Resource-Policy")})
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL, nil)
		require.NoError(t, err)
		response, err := server.Client().Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode, method)
	}
}

func TestWhatIsShownIsEscapedAndCut(t *testing.T) {
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

func TestThePageListsWhatCannotBeCompared(t *testing.T) {
	page := web.New(web.Options{
		Collect: func(context.Context, status.Query) (status.Status, error) {
			return status.Status{
				At: time.Now(), Counts: map[status.State]int{status.NotComparable: 1},
				Providers: []status.Provider{{Name: "aws", State: status.NotComparable, Fields: []drift.Field{{Name: "row", DB: "the reason"}}}},
			}, nil
		},
		Worker: func() status.Worker {
			return status.Worker{Leads: true, NotComparable: []string{"aws: <b>the reason</b>"}}
		},
		Access: local, Logger: slog.New(slog.DiscardHandler),
	})
	server := httptest.NewServer(page)
	t.Cleanup(server.Close)
	t.Cleanup(page.Close)
	_, body := get(t, server, "/")
	require.Contains(t, body, "Providers that cannot be compared.")
	require.Contains(t, body, "aws: &lt;b&gt;the reason")
	require.Contains(t, text(body), "1 ! cannot be compared")
	require.Contains(t, body, `href="./?state=not_comparable#providers"`)
	require.Contains(t, text(body), "aws ! cannot be compared")
}

func TestTheQueryIsTakenFromTheAddressAndTheLinksKeepIt(t *testing.T) {
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

// TestSinksAreShownWhereThereAreSome reads the section and its place in the
// navigation.
func TestSinksAreShownWhereThereAreSome(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	answers := map[string]status.Status{
		"none": {},
		"some": {
			Sinks: []sink.Progress{
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
		"nats stream drift ● delivering events behind 0 dead letters 0 last moved 2026-07-01 12:00:00 , to #7",
		"webhook stream drift ▲ behind events behind 3 dead letters 0 ",
		"webhook stream audit ▲ dead letters events behind 2 dead letters 21 ",
		"Dead letters, the latest first, 1 of 21.",
		"webhook #8 stream audit 2026-07-01 12:00:00 openai attempts: 2 to be tried again HTTP 410 Gone",
	} {
		require.Contains(t, section, says)
	}
	require.Equal(t, 2, strings.Count(body[strings.Index(body, `id="sinks"`):], "<caption>"))
	_, body = get(t, server, "/?q=unread")
	require.Contains(t, text(body), "Sinks How far sinks are cannot be read. GRANT SELECT ON TABLE provwatch.sink_cursors TO somebody; Health")
	require.Contains(t, body, `href="#sinks"`)
}

func TestNoticesAreShownWhereThereAreSome(t *testing.T) {
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

func TestWhatHasNoFieldsSaysWhatItMeans(t *testing.T) {
	_, server := serve(t, local, func(context.Context, status.Query) (status.Status, error) {
		return status.Status{
			Providers: []status.Provider{{Name: "gone", State: status.Drifted, Kind: drift.Missing}, {Name: "synced", State: status.InSync}},
			Alerts:    []status.Alert{{Seq: 2, Provider: "gone", Kind: drift.Resolved}, {Seq: 1, Provider: "gone", Kind: drift.Missing}},
		}, nil
	})
	_, body := get(t, server, "/")
	for _, says := range []string{
		"gone ▲ missing no row in the database synced ● in sync no differences",
		"gone ● resolved the drift has ended",
		"gone ▲ missing no row in the database Audit",
	} {
		require.Contains(t, text(body), says)
	}
}

// text returns the text of a page, without its tags.
func text(page string) string {
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")), " ")
}

func TestWithoutTheDatabaseThePageShowsTheWorker(t *testing.T) {
	_, server := serve(t, local, func(context.Context, status.Query) (status.Status, error) {
		return status.Status{}, errors.New("the database is away")
	})
	response, body := get(t, server, "/")
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Contains(t, body, "the database is away")
	require.Contains(t, body, "the worker")
	require.NotContains(t, body, `id="providers"`)
}

// TestRequestsAreCollectedOneAtATimeAndTogether has many ask at once, while one
// collection is under way that began before they came.
func TestRequestsAreCollectedOneAtATimeAndTogether(t *testing.T) {
	var collecting, most, collected, came atomic.Int32
	release, began := make(chan struct{}), make(chan struct{}, 100)
	page, server := serve(t, local, func(context.Context, status.Query) (status.Status, error) {
		most.Store(max(most.Load(), collecting.Add(1)))
		defer collecting.Add(-1)
		collected.Add(1)
		began <- struct{}{}
		<-release
		return status.Status{At: time.Now()}, nil
	})
	page.Worker = func() status.Worker { // is asked just before the collection
		came.Add(1)
		return status.Worker{}
	}
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
	waittest.Until(t, func() bool { return came.Load() == 54 }, "all have asked")
	close(release)
	for range 54 {
		require.Equal(t, http.StatusOK, <-answers)
	}
	require.EqualValues(t, 1, most.Load())
	// Those that came while the first was under way may have come in several lots.
	require.GreaterOrEqual(t, collected.Load(), int32(2+3))
	require.Less(t, collected.Load(), int32(54))
}

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

func TestEventsReachWhoeverListensAndEndWithThePage(t *testing.T) {
	page, server := serve(t, local, nil)
	page.Changed(web.Alerts) // nobody listens
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

func TestStreamsAreLimitedAndThoseThatEndMakeRoom(t *testing.T) {
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
	require.Equal(t, "too many have the page open", <-lines)
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
func (r *recorder) Flush()                           {}
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// TestAnyNumberOfChangesIsOneEventASecond runs on a clock of its own.
func TestAnyNumberOfChangesIsOneEventASecond(t *testing.T) {
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
		// The last change is told of, and then there is a heartbeat every 15 seconds.
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

func TestASlowClientIsDroppedAndKeepsNobodyWaiting(t *testing.T) {
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
