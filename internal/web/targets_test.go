package web_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/status"
	"provwatch/internal/web"
)

var resynced = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// leader is what a worker knows of itself that leads and is ready.
func leader(providers int) status.Worker {
	return status.Worker{ID: "x", Leads: true, Source: "wal", Listening: true, Providers: providers, LastResync: &resynced}
}

// roster is the targets of an overview, whose states do not change.
type roster []web.Target

func (r roster) Targets() []web.Target { return r }

// serveTargets serves the pages of targets, whose databases collect answers for, by
// the name of the target.
func serveTargets(t *testing.T, access web.Access, targets []web.Target, collect func(context.Context, string) (status.Status, error)) (*web.Targets, *httptest.Server) {
	t.Helper()
	pages := web.NewTargets(web.TargetsOptions{Roster: roster(targets), Access: access, Logger: slog.New(slog.DiscardHandler)})
	for _, target := range targets {
		pages.Add(target.Name, web.Options{Source: &source{
			collect: func(ctx context.Context, _ status.Query) (status.Status, error) { return collect(ctx, target.Name) },
			worker:  target.Worker,
		}})
	}
	server := httptest.NewServer(pages)
	server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(server.Close)
	t.Cleanup(pages.Close)
	return pages, server
}

// names is a database whose name is that of its target.
func names(_ context.Context, target string) (status.Status, error) {
	return status.Status{At: resynced, Database: status.Database{Name: "database-of-" + target}}, nil
}

func TestTargetPages(t *testing.T) {
	t.Run("Overview", testTargetPagesOverview)
	t.Run("WithoutProviders", testTargetPagesWithoutProviders)
	t.Run("OfEachTarget", testTargetPagesOfEachTarget)
	t.Run("NeedAccess", testTargetPagesNeedAccess)
	t.Run("HangingDatabase", testTargetPagesHangingDatabase)
	t.Run("Events", testTargetPagesEvents)
}

func testTargetPagesOverview(t *testing.T) {
	down := leader(3)
	down.Leads, down.Listening, down.NotReady = false, false, "cannot connect to host\x1b[31m: no such host\nremedy: more of it"
	notComparable := leader(2)
	notComparable.NotComparableTotal = 1
	standby := leader(7)
	standby.Leads = false
	targets := []web.Target{
		{Name: "b-synced", Worker: notComparable, Drifts: map[drift.Kind]int{}},
		{Name: "standby", Worker: standby},
		{Name: "a-synced", Worker: leader(1), Drifts: map[drift.Kind]int{drift.Changed: 0}},
		{Name: "booting", Worker: status.Worker{NotReady: "booting"}, Starting: true},
		{Name: "drifting", Worker: leader(9), Drifts: map[drift.Kind]int{drift.Deleted: 1, drift.Missing: 2, drift.Changed: 3, drift.Unmanaged: 4}},
		{Name: "down", Worker: down},
		{Name: "empty", Worker: leader(0), Drifts: map[drift.Kind]int{}},
	}
	_, server := serveTargets(t, local, targets, func(context.Context, string) (status.Status, error) {
		t.Error("the overview asked a database")
		return status.Status{}, nil
	})
	listed := func(path string) (list []string, body string) {
		t.Helper()
		response, body := get(t, server, path)
		require.Equal(t, http.StatusOK, response.StatusCode)
		for _, row := range regexp.MustCompile(`href="targets/([^"]*)/"`).FindAllStringSubmatch(body, -1) {
			list = append(list, row[1])
		}
		return list, body
	}
	list, body := listed("/")
	require.Equal(t, []string{"down", "drifting", "booting", "empty", "standby", "a-synced", "b-synced"}, list)
	says := text(body)
	for _, want := range []string{
		"Targets not ready: 1 of 7. Providers drifted or soft-deleted: 10.",
		"1 ✕ not ready 1 ▲ with drift 1 ◌ starting 1 ◌ without providers 1 ◇ standing by 2 ● without drift",
		`down ✕ not ready &#34;cannot connect to host\x1b[31m: no such host&#34; providers 3 last resync 2026-07-01 12:00:00`,
		"drifting ▲ with drift leads, source wal providers 9, of them 2 missing, 3 changed, 1 soft-deleted, 4 unmanaged, alerted last resync 2026-07-01 12:00:00",
		"booting ◌ starting last resync none yet",
		"standby ◇ standing by providers 7, the leader knows how they are last resync",
		"b-synced ● without drift leads, source wal providers 2, none drifting, 1 not comparable last resync",
		"Targets, 7 in all",
	} {
		require.Contains(t, says, want)
	}
	require.Contains(t, body, "<title>(2) provwatch – targets</title>")
	require.NotContains(t, says, "remedy")
	require.Contains(t, body, `<span id="worker-health" class="state deleted"><span class="sign" aria-hidden="true">✕</span> 1 not ready</span>`)

	list, body = listed("/?state=no_drift&q=b-s")
	require.Equal(t, []string{"b-synced"}, list)
	require.Contains(t, text(body), "Targets without drift whose name contains “b-s”, 1 in all")
	require.Contains(t, body, `<a id="reload" href="./?q=b-s&amp;state=no_drift">`)
	require.Contains(t, body, `href="./?state=not_ready#targets"`)
	list, body = listed("/?q=%22%3E%3Cscript%3E&state=other")
	require.Empty(t, list)
	require.NotContains(t, body, "<script>")
}

// testTargetPagesWithoutProviders has targets of which no provider is compared, and then another one.
func testTargetPagesWithoutProviders(t *testing.T) {
	standby := leader(0)
	standby.Leads = false
	targets := []web.Target{{Name: "a", Worker: leader(0), Drifts: map[drift.Kind]int{}}, {Name: "b", Worker: standby}}
	_, server := serveTargets(t, local, targets, names)
	_, body := get(t, server, "/")
	require.Contains(t, body, `<span id="worker-health" class="state accepted"><span class="sign" aria-hidden="true">◌</span> all ready, without providers</span>`)
	targets = append(targets, web.Target{Name: "c", Worker: leader(1), Drifts: map[drift.Kind]int{}})
	_, server = serveTargets(t, local, targets, names)
	_, body = get(t, server, "/")
	require.Contains(t, body, `<span id="worker-health" class="state in_sync"><span class="sign" aria-hidden="true">●</span> all ready</span>`)
}

func testTargetPagesOfEachTarget(t *testing.T) {
	odd := `a b/<i>?"é`
	_, server := serveTargets(t, local, []web.Target{{Name: "billing", Worker: leader(1)}, {Name: odd, Worker: leader(1)}}, names)
	response, body := get(t, server, "/targets/billing/")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Contains(t, body, "<title>provwatch – billing</title>")
	require.Contains(t, text(body), "target billing , database database-of-billing")
	require.Contains(t, body, `<a id="all-targets" href="../../">`)

	// A name is escaped in the address, and found again.
	_, body = get(t, server, "/")
	link := regexp.MustCompile(`href="(targets/a[^"]*)"`).FindStringSubmatch(body)
	require.NotNil(t, link)
	response, body = get(t, server, "/"+link[1])
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.NotContains(t, body, "<i>")
	require.Contains(t, body, "database-of-a b/&lt;i&gt;")

	for path, want := range map[string]int{
		"/targets/billing/style.css": 200, "/targets/billing/script.js": 200, "/targets/billing/nothing": 404, "/targets/billing/style.css/": 404,
		"/targets/other/": 404, "/targets/other": 404, "/targets/other/events": 404, "/nothing": 404, "/targets/%2e%2e/": 404,
	} {
		response, body := get(t, server, path)
		require.Equal(t, want, response.StatusCode, path)
		require.NotContains(t, body, "database-of")
	}
	// Relative, and so right below any path of a proxy.
	for path, want := range map[string]string{"/targets/": "../", "/targets/billing": "billing/", "/" + strings.TrimSuffix(link[1], "/"): strings.TrimPrefix(link[1], "targets/")} {
		response, _ := get(t, server, path)
		require.Equal(t, http.StatusFound, response.StatusCode, path)
		require.Equal(t, want, response.Header.Get("Location"))
	}
}

// testTargetPagesNeedAccess checks that targets are hidden from clients without access.
func testTargetPagesNeedAccess(t *testing.T) {
	_, server := serveTargets(t, web.Access{}, []web.Target{{Name: "billing"}}, names)
	var refusals []string
	for _, path := range []string{"/", "/events", "/targets/billing/", "/targets/billing/events", "/targets/billing", "/targets/other/", "/targets/"} {
		response, body := get(t, server, path)
		require.Equal(t, http.StatusForbidden, response.StatusCode, path)
		require.Contains(t, response.Header.Get("Content-Security-Policy"), "default-src 'none'")
		refusals = append(refusals, body)
	}
	require.Len(t, slices.Compact(refusals), 1)
}

// testTargetPagesHangingDatabase asks for others while it does.
func testTargetPagesHangingDatabase(t *testing.T) {
	hangs, release := make(chan struct{}), make(chan struct{})
	_, server := serveTargets(t, local, []web.Target{{Name: "well", Worker: leader(1)}, {Name: "hangs", Worker: leader(1)}}, func(ctx context.Context, name string) (status.Status, error) {
		if name == "hangs" {
			close(hangs)
			<-release
		}
		return names(ctx, name)
	})
	answered := make(chan int)
	go func() {
		response, err := server.Client().Get(server.URL + "/targets/hangs/")
		if err != nil {
			answered <- 0
			return
		}
		_ = response.Body.Close()
		answered <- response.StatusCode
	}()
	<-hangs
	for _, path := range []string{"/", "/targets/well/"} {
		response, _ := get(t, server, path)
		require.Equal(t, http.StatusOK, response.StatusCode, path)
	}
	close(release)
	require.Equal(t, http.StatusOK, <-answered)
}

// testTargetPagesEvents opens all streams that there may be, of three pages.
func testTargetPagesEvents(t *testing.T) {
	pages, server := serveTargets(t, local, []web.Target{{Name: "a"}, {Name: "b"}}, names)
	server.Client().Transport.(*http.Transport).MaxConnsPerHost = 0
	paths := []string{"/events", "/targets/a/events", "/targets/b/events"}
	var all []<-chan string
	for i := range 100 {
		code, lines := streamOf(t, t.Context(), server, paths[i%3])
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, "retry: 2000", <-lines)
		require.Empty(t, <-lines)
		all = append(all, lines)
	}
	for _, path := range paths {
		code, _ := streamOf(t, t.Context(), server, path)
		require.Equal(t, http.StatusServiceUnavailable, code, path)
	}
	pages.Changed(web.Health)
	require.Equal(t, "event: change", <-all[0])
	require.Equal(t, "data: health", <-all[0])
	require.Empty(t, <-all[0])
	pages.Close()
	for i, lines := range all {
		for line := range lines {
			require.Zero(t, i%3, fmt.Sprintf("stream %d has had %q", i, line))
		}
	}
}
