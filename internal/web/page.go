// Package web serves the status page, read-only, for people: the state of the providers and
// of the workers. It is one HTML document that the server renders
// whole; a small script fetches it again at each event.
package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"provwatch/internal/status"
)

//go:embed assets
var assets embed.FS

const (
	// pageSize is how many providers, alerts and audit entries a page shows each.
	pageSize = 100
	// collectTimeout bounds how long a request waits for the database, its turn
	// included.
	collectTimeout = 5 * time.Second
	// maxSearch bounds what is searched for, in bytes.
	maxSearch = 200
)

// Paths are those of the page, as patterns of [http.ServeMux].
var Paths = []string{"/{$}", "/events", "/style.css", "/script.js"}

// Source is what a page shows.
type Source interface {
	// Collect collects from the database. It is called by one request at a time.
	Collect(ctx context.Context, query status.Query) (status.Status, error)
	// Worker returns what the worker knows of itself, without the database.
	Worker() status.Worker
}

// Options are what a page shows, and to whom.
type Options struct {
	Source Source
	Access Access
	Logger *slog.Logger
}

// Page serves the status page below the path that it is mounted at: its links are
// relative. Its methods may be called by several goroutines.
type Page struct {
	source  Source
	logger  *slog.Logger
	target  string          // of several, empty for the only database
	ctx     context.Context // of whatever outlives a request
	cancel  context.CancelFunc
	handler http.Handler
	events  *events
	// flights are the collections that requests wait for, by query; turn lets one
	// of them at a time at the database.
	flights singleflight.Group
	turn    chan struct{}
}

// New returns a page, which must be closed.
func New(o Options) *Page { return newPage(o, "", &streamLimit{}) }

func newPage(o Options, target string, s *streamLimit) *Page {
	p := &Page{source: o.Source, logger: o.Logger, target: target, events: newEvents(s), turn: make(chan struct{}, 1)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.page)
	mux.Handle("GET /events", p.events)
	mux.HandleFunc("GET /style.css", asset("text/css; charset=utf-8", "style.css"))
	mux.HandleFunc("GET /script.js", asset("text/javascript; charset=utf-8", "script.js"))
	p.handler = o.Access.Guard(mux)
	return p
}

// ServeHTTP implements [http.Handler].
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// Changed sends an event to the clients that have the page open. It never blocks.
func (p *Page) Changed(c Change) { p.events.publish(c) }

// Close ends all streams of events and all collections.
func (p *Page) Close() {
	p.cancel()
	p.events.close()
}

func asset(contentType, name string) http.HandlerFunc {
	content, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // it is part of the program
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(content)
	}
}

var documents = template.Must(template.New("").Funcs(functions).ParseFS(assets, "assets/*.html"))

func (p *Page) page(w http.ResponseWriter, r *http.Request) {
	query := queryOf(r)
	v := view{Target: p.target, Worker: p.source.Worker(), At: time.Now()}
	s, err := p.collect(r.Context(), query)
	if r.Context().Err() != nil {
		return
	}
	code := http.StatusOK
	if err != nil {
		p.logger.WarnContext(r.Context(), "the status page cannot be collected", "error", err)
		v.Failure, code = err.Error(), http.StatusServiceUnavailable
	}
	v.fill(s, query)
	var body bytes.Buffer
	if err := documents.ExecuteTemplate(&body, "page.html", v); err != nil {
		p.logger.ErrorContext(r.Context(), "the status page cannot be rendered", "error", err)
		http.Error(w, "the status page cannot be rendered", http.StatusInternalServerError)
		return
	}
	answer(w, code, &body)
}

// answer writes a document. A client that does not read is not waited for.
func answer(w http.ResponseWriter, code int, body *bytes.Buffer) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = body.WriteTo(w)
}

// collect collects for a request. Requests for the same wait together for one
// collection, but never for a collection that began before them, since the event that
// prompted them can be newer.
func (p *Page) collect(ctx context.Context, query status.Query) (status.Status, error) {
	key := fmt.Sprintf("%+v", query)
	done := p.flights.DoChan(key, func() (any, error) {
		limited, cancel := context.WithTimeout(p.ctx, collectTimeout)
		defer cancel()
		select {
		case p.turn <- struct{}{}:
			defer func() { <-p.turn }()
		case <-limited.Done():
			p.flights.Forget(key)
			return nil, errors.New("too many requests for the page at once; reload it")
		}
		p.flights.Forget(key)
		return p.source.Collect(limited, query)
	})
	select {
	case <-ctx.Done():
		return status.Status{}, ctx.Err()
	case result := <-done:
		if result.Err != nil {
			return status.Status{}, result.Err
		}
		return result.Val.(status.Status), nil
	}
}

// queryOf returns what a request asks for. What cannot be used counts as not
// given.
func queryOf(r *http.Request) status.Query {
	values := r.URL.Query()
	q := status.Query{Providers: pageSize, Alerts: pageSize, Audit: pageSize}
	for _, state := range status.States {
		if values.Get("state") == string(state) {
			q.States = []status.State{state}
		}
		if name, found := strings.CutPrefix(values.Get("after"), string(state)+":"); found {
			q.After = status.Cursor{State: state, Name: text(name)}
		}
	}
	q.Search = searched(values)
	q.AlertsBefore, q.AuditBefore = seq(values.Get("alerts_before")), seq(values.Get("audit_before"))
	return q
}

// searched returns what is searched for, empty for nothing.
func searched(values url.Values) string {
	search := text(values.Get("q"))
	if len(search) > maxSearch {
		search = text(search[:maxSearch])
	}
	return search
}

// text returns a value as PostgreSQL takes it.
func text(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(strings.TrimSpace(s), "\x00", ""), "")
}

func seq(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0
	}
	return n
}
