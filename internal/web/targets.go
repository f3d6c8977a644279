package web

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"provwatch/internal/drift"
	"provwatch/internal/status"
)

// TargetsPaths are those of the pages of several databases, as patterns of
// [http.ServeMux].
var TargetsPaths = append(slices.Clone(Paths), "/targets/")

// Target is what a worker knows by itself of how one of several databases is
// watched.
type Target struct {
	Name   string
	Worker status.Worker
	// Starting: nothing has failed, and nothing was verified yet.
	Starting bool
	// Drifts is how many providers drift, by kind, whose drift was not accepted. Nil
	// where it is not known: before the first verification, and while another worker
	// leads, whose it is to know.
	Drifts map[drift.Kind]int
}

// Roster is what the overview of several databases shows.
type Roster interface {
	// Targets returns the present state of all targets. It asks no database.
	Targets() []Target
}

// TargetsOptions are what the overview of several databases shows, and to whom.
type TargetsOptions struct {
	Roster Roster
	Access Access
	Logger *slog.Logger
}

// Targets serves the pages of several databases: an overview, and below targets/NAME/
// the page of each. Its methods other than Add can be called by several goroutines.
type Targets struct {
	options TargetsOptions
	handler http.Handler
	events  *events
	limit   *streamLimit
	pages   map[string]*Page
}

// NewTargets returns the pages, without that of any target. They must be closed.
func NewTargets(o TargetsOptions) *Targets {
	t := &Targets{options: o, limit: &streamLimit{}, pages: map[string]*Page{}}
	t.events = newEvents(t.limit)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", t.overview)
	mux.Handle("GET /events", t.events)
	mux.HandleFunc("GET /style.css", asset("text/css; charset=utf-8", "style.css"))
	mux.HandleFunc("GET /script.js", asset("text/javascript; charset=utf-8", "script.js"))
	mux.HandleFunc("GET /targets/{$}", func(w http.ResponseWriter, _ *http.Request) { redirect(w, "../") })
	mux.HandleFunc("GET /targets/{name}", t.target)
	mux.HandleFunc("GET /targets/{name}/{rest...}", t.target)
	t.handler = o.Access.Guard(mux)
	return t
}

// Add adds the page of a target, before anything is served. Access and Logger of its
// options do not count.
func (t *Targets) Add(name string, o Options) *Page {
	o.Access, o.Logger = t.options.Access, t.options.Logger.With("target", name)
	page := newPage(o, name, t.limit)
	t.pages[name] = page
	return page
}

// ServeHTTP implements [http.Handler].
func (t *Targets) ServeHTTP(w http.ResponseWriter, r *http.Request) { t.handler.ServeHTTP(w, r) }

// Changed sends an event to the clients that have the overview open. It never blocks.
func (t *Targets) Changed(c Change) { t.events.publish(c) }

// Close closes the overview and the page of every target.
func (t *Targets) Close() {
	t.events.close()
	for _, page := range t.pages {
		page.Close()
	}
}

// target serves a part of the page of a target.
func (t *Targets) target(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	page := t.pages[name]
	if page == nil {
		refuse(w, http.StatusNotFound, "There is no target of this name.\n")
		return
	}
	if !strings.Contains(strings.TrimPrefix(r.URL.EscapedPath(), "/targets/"), "/") {
		redirect(w, url.PathEscape(name)+"/") // its links are relative
		return
	}
	inner := r.Clone(r.Context())
	inner.URL.Path, inner.URL.RawPath = "/"+r.PathValue("rest"), ""
	page.ServeHTTP(w, inner)
}

// redirect leads to an address that is relative, so that it is right behind a proxy
// as well that has the pages below another path.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

func (t *Targets) overview(w http.ResponseWriter, r *http.Request) {
	v := overviewOf(t.options.Roster.Targets(), targetsQueryOf(r))
	var body bytes.Buffer
	if err := documents.ExecuteTemplate(&body, "targets.html", v); err != nil {
		t.cannotRender(r.Context(), w, err)
		return
	}
	answer(w, http.StatusOK, &body)
}

func (t *Targets) cannotRender(ctx context.Context, w http.ResponseWriter, err error) {
	t.options.Logger.ErrorContext(ctx, "the overview of targets cannot be rendered", "error", err)
	http.Error(w, "the overview of targets cannot be rendered", http.StatusInternalServerError)
}

// targetState is how a target is, in the order of a listing: the most urgent first.
type targetState int

const (
	notReady targetState = iota
	drifting
	starting
	unnamed    // its environment names no provider of a type that the database knows
	standingBy // ready, and for the leader to know how its providers are
	steady
)

var targetStates = []struct {
	Key string // in an address
	chip
}{
	notReady:   {"not_ready", chip{status.SoftDeleted, "✕", status.NotReady}},
	drifting:   {"drifting", chip{status.Drifted, "▲", "with drift"}},
	starting:   {"starting", chip{status.Unverified, "◌", "starting"}},
	unnamed:    {"no_providers", chip{status.Unverified, "◌", status.WithoutProviders}},
	standingBy: {"standing_by", chip{status.Accepted, "◇", "standing by"}},
	steady:     {"no_drift", chip{status.InSync, "●", "without drift"}},
}

func (t Target) state() targetState {
	switch {
	case t.Starting:
		return starting
	case t.Worker.NotReady != "":
		return notReady
	case t.drifting() > 0:
		return drifting
	case t.Drifts == nil && t.Worker.Leads:
		return starting // to lead
	case t.Worker.Providers == 0:
		return unnamed
	case t.Drifts == nil:
		return standingBy
	default:
		return steady
	}
}

// drifting is how many of its providers are known to drift.
func (t Target) drifting() int {
	n := 0
	for _, providers := range t.Drifts {
		n += providers
	}
	return n
}

// targetsQuery selects the targets to show.
type targetsQuery struct {
	State  string // the key of a state, empty for all
	Search string // a part of the name
}

func targetsQueryOf(r *http.Request) targetsQuery {
	values := r.URL.Query()
	q := targetsQuery{Search: searched(values)}
	for _, state := range targetStates {
		if values.Get("state") == state.Key {
			q.State = state.Key
		}
	}
	return q
}

func (q targetsQuery) link(fragment string) string {
	values := url.Values{}
	for name, value := range map[string]string{"state": q.State, "q": q.Search} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return address(values, fragment)
}

// overview is what the template renders.
type overview struct {
	At      time.Time
	Self    string // the page, as it was asked for
	Health  chip   // of all targets
	Summary string
	Urgent  int // how many targets are not ready or drift
	Search  string
	Counts  []targetCount
	Targets []targetView
	Caption string
}

type targetCount struct {
	chip
	Key      string
	N        int
	Link     string
	Selected bool
}

type targetView struct {
	Target
	chip
	state             targetState
	Link              string
	Role              string
	Reason, Providers string
}

func overviewOf(targets []Target, q targetsQuery) overview {
	v := overview{At: time.Now(), Self: q.link(""), Search: q.Search}
	counts, drifts := make([]int, len(targetStates)), 0
	for _, t := range targets {
		state := t.state()
		counts[state]++
		drifts += t.drifting()
		if q.State != "" && q.State != targetStates[state].Key || !strings.Contains(t.Name, q.Search) {
			continue
		}
		v.Targets = append(v.Targets, viewOf(t, state))
	}
	slices.SortFunc(v.Targets, func(a, b targetView) int {
		return cmp.Or(cmp.Compare(a.state, b.state), cmp.Compare(a.Name, b.Name))
	})
	for state, s := range targetStates {
		v.Counts = append(v.Counts, targetCount{
			chip: s.chip, Key: s.Key, N: counts[state], Selected: s.Key == q.State, Link: targetsQuery{State: s.Key}.link("#targets"),
		})
	}
	v.Health = chipOfTargets(counts)
	v.Urgent = counts[notReady] + counts[drifting]
	v.Summary = fmt.Sprintf("Targets not ready: %d of %d. Providers %s or %s: %d.", counts[notReady], len(targets), status.Drifted.Label(), status.SoftDeleted.Label(), drifts)
	what := "Targets"
	if q.State != "" {
		what += " " + targetStates[slices.IndexFunc(v.Counts, func(c targetCount) bool { return c.Selected })].Label
	}
	if q.Search != "" {
		what += fmt.Sprintf(" whose name contains “%s”", shown(q.Search))
	}
	v.Caption = fmt.Sprintf("%s, %d in all", what, len(v.Targets))
	if len(v.Targets) == 0 {
		v.Caption = "There are no " + strings.ToLower(what[:1]) + what[1:] + "."
	}
	return v
}

// chipOfTargets shows whether all targets are watched. It is not green where no provider of any
// target is compared. The counts are by state.
func chipOfTargets(counts []int) chip {
	for _, state := range []targetState{notReady, starting} {
		if n := counts[state]; n > 0 {
			c := targetStates[state].chip
			c.Label = fmt.Sprintf("%d %s", n, c.Label)
			return c
		}
	}
	if counts[drifting]+counts[standingBy]+counts[steady] == 0 {
		return chip{status.Accepted, "◌", "all ready, " + status.WithoutProviders}
	}
	return chip{status.InSync, "●", "all ready"}
}

// kindOrder is the order in which drifts are counted.
var kindOrder = []drift.Kind{drift.Missing, drift.Disabled, drift.Changed, drift.Deleted}

func viewOf(t Target, state targetState) targetView {
	v := targetView{Target: t, state: state, chip: targetStates[state].chip, Link: "targets/" + url.PathEscape(t.Name) + "/"}
	switch w := t.Worker; {
	case w.Leads && w.Source != "":
		v.Role = "leads, source " + w.Source
	case w.Leads:
		v.Role = "leads"
	case w.Listening && state != standingBy:
		v.Role = "stands by"
	}
	if t.Worker.Observes {
		v.Role = strings.TrimPrefix(v.Role+", observes", ", ")
	}
	if state == notReady {
		// What follows is for the target's page.
		v.Reason, _, _ = strings.Cut(t.Worker.NotReady, "\n")
	}
	if t.Worker.ID == "" {
		return v // it was not seeded yet
	}
	v.Providers = strconv.Itoa(t.Worker.Providers)
	var parts []string
	for _, kind := range kindOrder {
		if n := t.Drifts[kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, chipOfKind(kind).Label))
		}
	}
	unmanaged := t.Drifts[drift.Unmanaged]
	switch {
	case len(parts) > 0:
		v.Providers += ", of them " + strings.Join(parts, ", ")
	case t.Drifts != nil && unmanaged == 0:
		v.Providers += ", none drifting"
	case !t.Worker.Leads && t.Worker.Listening:
		v.Providers += ", the leader knows how they are"
	}
	if unmanaged > 0 {
		v.Providers += fmt.Sprintf(", %d %s", unmanaged, status.UnmanagedLabel(true))
	}
	if n := t.Worker.NotComparableTotal; n > 0 {
		v.Providers += fmt.Sprintf(", %d %s", n, status.NotComparable.Label())
	}
	return v
}
