//go:build e2e

package test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// chromium returns the browser that the page is tested in. A test is skipped where
// there is none, as where no package manager offers one
// (scripts/install-chromium.sh).
func chromium(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("PROVWATCH_TEST_CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
	} {
		path, err := exec.LookPath(name)
		if err == nil && exec.Command(path, "--version").Run() == nil {
			return path
		}
	}
	t.Skip("there is no Chromium: scripts/install-chromium.sh installs one, or PROVWATCH_TEST_CHROMIUM names it")
	return ""
}

// browser is one tab of a browser of its own.
type browser struct {
	w   *world
	ctx context.Context

	mu       sync.Mutex
	problems []string // what the page's console has of errors
}

func (w *world) browse() *browser {
	w.t.Helper()
	path := chromium(w.t)
	allocator, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(w.t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-extensions", true), chromedp.Flag("disable-dev-shm-usage", true),
	)
	w.t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	w.t.Cleanup(closeTab)
	b := &browser{w: w, ctx: ctx}
	// The first call starts the browser, which a timeout of it would end.
	require.NoError(w.t, chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.problem(e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				b.problem(e.Entry.Text + " " + e.Entry.URL)
			}
		}
	}))
	call(b, log.Enable, cdp.Empty{})
	call(b, accessibility.Enable, cdp.Empty{})
	return b
}

// call sends a command of the DevTools protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.w.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	require.NoError(b.w.t, err)
	return result
}

func (b *browser) problem(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

func act[T any](b *browser, action chromedp.Action[T]) T {
	b.w.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	require.NoError(b.w.t, err)
	return result
}

// eval evaluates a JavaScript expression.
func eval[T any](b *browser, expression string) T {
	b.w.t.Helper()
	return act(b, chromedp.Evaluate[T](expression))
}

// script runs JavaScript.
func (b *browser) script(statements string) {
	b.w.t.Helper()
	eval[bool](b, "(() => {"+statements+"; return true})()")
}

// until waits for a JavaScript condition.
func (b *browser) until(condition string) {
	b.w.t.Helper()
	eventually(b.w.t, func() bool { return eval[bool](b, condition) }, "%s; the page:\n%s", condition, lazily(func() []string { return []string{b.html()} }))
}

// html returns the document as it is, by the browser and not by a script.
func (b *browser) html() (html string) {
	b.w.t.Helper()
	// What a document's id stands for can be gone by the next call.
	eventually(b.w.t, func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		defer cancel()
		root, err := chromedp.Call(ctx, dom.GetDocument, dom.GetDocumentParams{})
		require.NoError(b.w.t, err)
		outer, err := chromedp.Call(ctx, dom.GetOuterHTML, dom.GetOuterHTMLParams{BackendNodeID: root.Root.BackendNodeID})
		html = outer.OuterHTML
		return err == nil
	}, "the browser shows the document")
	b.w.emit(html)
	return html
}

// view sets the size of the window, in CSS pixels, and the colour scheme.
func (b *browser) view(width, height int64, scheme string) {
	b.w.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

// shoot takes a picture of the window and keeps it in PROVWATCH_SCREENSHOTS, if
// that is set.
func (b *browser) shoot(name string) {
	b.w.t.Helper()
	dir := os.Getenv("PROVWATCH_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture := act(b, chromedp.CaptureScreenshot())
	require.NoError(b.w.t, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644))
}

// press presses a key and returns the element that has the focus then.
func (b *browser) press(key string, modifiers ...kb.Modifier) string {
	b.w.t.Helper()
	act(b, chromedp.KeyEvent(key, chromedp.KeyModifiers(modifiers...)))
	return b.focus()
}

func (b *browser) focus() string {
	b.w.t.Helper()
	return eval[string](b, `(e => e.id || e.getAttribute("href") || e.tagName)(document.activeElement)`)
}

// roles returns the accessible elements, each as its role and name.
func (b *browser) roles() (list []string) {
	b.w.t.Helper()
	text := func(v *accessibility.Value) string {
		var s string
		if v != nil {
			_ = json.Unmarshal(v.Value, &s)
		}
		return s
	}
	for _, node := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if !node.Ignored {
			list = append(list, strings.TrimSpace(text(node.Role)+" "+text(node.Name)))
		}
	}
	return list
}

// poorContrast is a script that returns the texts that have less contrast than
// WCAG 2.2 AA asks for.
const poorContrast = `(() => {
	const numbers = (color) => (color.match(/[\d.]+/g) || []).map(Number);
	const luminance = ([r, g, b]) => {
		const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		return 0.2126 * x + 0.7152 * y + 0.0722 * z;
	};
	const behind = (e) => {
		for (; e; e = e.parentElement) {
			const color = numbers(getComputedStyle(e).backgroundColor);
			if (color.length === 3 || color[3] === 1) return color;
		}
		throw new Error("no background");
	};
	const poor = [];
	let looked = 0;
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		const e = texts.currentNode.parentElement;
		if (!texts.currentNode.data.trim() || e.tagName === "NOSCRIPT") continue;
		looked++;
		const [a, b] = [luminance(numbers(getComputedStyle(e).color)), luminance(behind(e))].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(texts.currentNode.data.trim() + " " + ((a + 0.05) / (b + 0.05)).toFixed(2));
	}
	return looked < 50 ? ["only " + looked + " texts"] : poor;
})()`

// testStatusPageInABrowser goes through the page as people do: with eyes,
// with a keyboard, with a screen reader, and without JavaScript.
func testStatusPageInABrowser(t *testing.T) {
	t.Parallel()
	chromium(t) // before a worker starts for nothing
	w := newWorldOn(t, pgtest.NamedDatabase(t, "gateway"), "")
	env := w.twoProviders().With("CODER_AIBRIDGE_PROVIDER_0_TYPE", "openai").With("CODER_AIBRIDGE_PROVIDER_0_NAME", "synced").
		With("CODER_AIBRIDGE_PROVIDER_0_BASE_URL", "https://gateway.example/v1/").With("CODER_AIBRIDGE_PROVIDER_0_KEY", w.secret("sk-synced-0123456789-abcdefghij-SYNCED"))
	// A page that kept the worker from stopping would do so for this time.
	p := w.start(env, "run", "--http-addr=127.0.0.1:0", "--shutdown-timeout=1h", "--unmanaged=warn").ready()
	b := w.browse()
	b.view(1200, 900, "light")
	act(b, chromedp.Navigate("http://"+p.httpAddress()+"/"))
	b.until(`document.getElementById("live").textContent === "Live updates"`)

	// News appears without the page being loaded again, and is told.
	b.script(`window.loadedOnce = true`)
	w.exec(`UPDATE ai_providers SET base_url = $1 WHERE name = 'openai'`,
		"https://somebody:"+w.secret("hidden-password")+"@proxy.example/v1/?key="+w.secret("hidden-parameter"))
	b.until(`document.querySelector("#providers tbody tr").innerText.includes("https://proxy.example/v1/")`)
	b.until(`document.getElementById("announcement").textContent === "Alert 1: openai, changed. Drifted or soft-deleted: 1 of 3 providers."`)
	require.True(t, eval[bool](b, `window.loadedOnce`), "the page was loaded anew")
	require.Equal(t, "(1) provwatch – gateway", eval[string](b, `document.title`))

	// What is being typed stays, and so do focus and scroll.
	b.script(`q.focus()`)
	b.press("anth")
	b.script(`scrollTo(0, 120)`)
	w.exec(`UPDATE ai_providers SET deleted = true WHERE name = 'anthropic'`)
	w.exec(`WITH new AS (INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'experiment', $1) RETURNING id)
		INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $2 FROM new`,
		"https://"+w.secret("hidden-user")+"@lab.example/v1/", w.secret("sk-experiment-0123456789-abcdefghij"))
	b.until(`document.getElementById("count-deleted").innerText.startsWith("1") && document.getElementById("count-unmanaged").innerText.startsWith("1")`)
	require.Equal(t, "anth 4 q 120", eval[string](b, `[q.value, q.selectionStart, document.activeElement.id, scrollY].join(" ")`))

	looks := func(prefix string) {
		b.script(`q.value = ""; q.blur()`)
		for _, size := range []struct {
			name          string
			width, height int64
		}{{"desktop", 1200, 1000}, {"phone", 390, 1000}, {"small", 320, 600}} {
			for _, scheme := range []string{"light", "dark"} {
				b.view(size.width, size.height, scheme)
				b.script(`scrollTo(0, 0)`)
				b.shoot(prefix + size.name + "-" + scheme)
				require.Empty(t, eval[[]string](b, poorContrast), "%s, %s", size.name, scheme)
				require.LessOrEqual(t, eval[int64](b, `document.documentElement.scrollWidth`), size.width, "%s: the page is wider than the window", size.name)
			}
		}
		require.NotEqual(t, "rgb(255, 255, 255)", eval[string](b, `getComputedStyle(document.body).backgroundColor`), "dark")
	}

	byAScreenReader := func() {
		want := []string{
			"banner", "navigation Sections", "main", "contentinfo", "search Providers", "searchbox Name contains", "combobox State", "button Show",
			"heading provwatch", "heading Overview", "heading Providers", "heading Alerts", "heading Audit", "heading Health",
			"region Providers", "table Providers, 4 in all", "table Drift alerts, the latest first", "table Audit entries, the latest first",
			"columnheader Provider", "columnheader State", "columnheader Differences", "rowheader synced openai, https://gateway.example/v1/",
			"link 1 drifted", "link 1 unmanaged", "status",
		}
		for _, width := range []int64{1200, 390} {
			b.view(width, 900, "light")
			roles := b.roles()
			for _, role := range want {
				require.True(t, slices.ContainsFunc(roles, func(r string) bool { return strings.Join(strings.Fields(r), " ") == role }),
					"%q at %d pixels among\n%s", role, width, strings.Join(roles, "\n"))
			}
			for _, role := range roles {
				require.NotContains(t, []string{"link", "button", "searchbox", "combobox", "table", "heading", "region"}, role, "it has no name")
			}
			require.Equal(t, 4+2+len(w.strings(`SELECT id::text FROM provwatch.audit_log`))+3,
				len(slices.DeleteFunc(roles, func(r string) bool { return !strings.HasPrefix(r, "row ") && r != "row" })), "rows and those of headers")
		}
	}

	byKeyboard := func() {
		b.view(1200, 900, "light")
		act(b, chromedp.Navigate("http://"+p.httpAddress()+"/"))
		b.until(`document.getElementById("live").textContent === "Live updates"`)
		require.Equal(t, "#main", b.press(kb.Tab), "the skip link comes first")
		require.True(t, eval[bool](b, `document.activeElement.getBoundingClientRect().left >= 0`), "it shows with the focus")
		order := []string{
			"reload", "#overview", "#providers", "#alerts", "#audit", "#health",
			"count-drifted", "count-not_comparable", "count-deleted", "count-pending", "count-unmanaged", "count-unsupported", "count-unverified", "count-accepted", "count-in_sync", "q", "state", "show",
		}
		for _, want := range order {
			require.Equal(t, want, b.press(kb.Tab))
			require.NotEqual(t, "none", eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`), "the focus of %s shows", want)
		}
		for i := len(order) - 2; i >= 0; i-- {
			require.Equal(t, order[i], b.press(kb.Tab, kb.ModifierShift))
		}
		// The skip link skips.
		b.press(kb.Tab, kb.ModifierShift)
		require.Equal(t, "main", b.press(kb.Enter))
		require.Equal(t, "count-drifted", b.press(kb.Tab))
		act(b, chromedp.KeyEvent(kb.Enter))
		b.until(`location.search === "?state=drifted" && document.querySelectorAll("#providers tbody tr").length === 1`)
	}

	// A second worker stands by for one target, and leads for others.
	ofManyTargets := func() {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "gateway.env"), env.File())
		for _, name := range []string{"billing", "search"} {
			writeFile(t, filepath.Join(dir, name+".env"), "CODER_AIBRIDGE_OPENAI_KEY="+w.secret("sk-"+name+"-0123456789-abcdefghij")+"\n")
		}
		file := writeFile(t, filepath.Join(dir, "provwatch.yaml"), `
targets:
  - {name: billing, env_file: billing.env, database_url_env: BILLING_URL}
  - {name: gateway, env_file: gateway.env, database_url_env: GATEWAY_URL, on_boot_drift: alert, source: wal}
  - {name: research, env_file: gateway.env, database_url_file: /run/secrets/research-database-url}
  - {name: search, env_file: search.env, database_url_env: SEARCH_URL}
`)
		search := pgtest.NamedDatabase(t, "search")
		many := w.start(environ{
			"DATABASE_URL": "", "PROVWATCH_SOURCE": "notify", "GATEWAY_URL": w.url, "BILLING_URL": pgtest.NewDatabase(t), "SEARCH_URL": search,
		}, "run", "--config="+file, "--http-addr=127.0.0.1:0")
		act(b, chromedp.Navigate("http://"+many.httpAddress()+"/"))
		b.until(`document.getElementById("live").textContent === "Live updates"`)
		b.until(`["1 not", "0 with drift", "1 standing", "2 without"].every((n, i) => document.querySelectorAll(".counts a")[[0, 1, 4, 5][i]].innerText.replace(/\W+/g, " ").startsWith(n))`)
		b.script(`window.loadedOnce = true`)
		require.NoError(t, tryExec(t.Context(), search, `UPDATE ai_providers SET base_url = 'https://proxy.example/v1/'`))
		const rows = `[...document.querySelectorAll("#targets tbody th")].map((e) => e.innerText).join(" ")`
		b.until(rows + ` === "research search gateway billing"`)
		b.until(`document.getElementById("announcement").textContent === "Targets not ready: 1 of 4. Providers drifted or soft-deleted: 1."`)
		require.True(t, eval[bool](b, `window.loadedOnce`), "the overview was loaded anew")
		require.Equal(t, "(2) provwatch – targets", eval[string](b, `document.title`))
		looks("targets-")
		roles := b.roles()
		for _, role := range []string{"table Targets, 4 in all", "rowheader search", "link search", "link 1 not ready", "search Targets", "columnheader Watch"} {
			require.Contains(t, roles, role)
		}

		b.view(1200, 900, "light")
		b.script(`document.getElementById("show").focus()`)
		require.Equal(t, "target-research", b.press(kb.Tab))
		require.Equal(t, "target-search", b.press(kb.Tab))
		act(b, chromedp.KeyEvent(kb.Enter))
		b.until(`location.pathname === "/targets/search/" && document.getElementById("live")?.textContent === "Live updates"`)
		b.until(`document.querySelector("#providers tbody tr")?.innerText.includes("https://proxy.example/v1/")`)
		b.shoot("target-desktop-light")
		b.script(`document.getElementById("all-targets").click()`)
		b.until(`location.pathname === "/" && ` + rows + ` === "research search gateway billing"`)
		b.html()
		// A page that is open is fetched again when its stream ends.
		act(b, chromedp.Navigate("http://"+p.httpAddress()+"/"))
		many.stop()
	}

	withoutJavaScript := func() {
		call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		base := "http://" + p.httpAddress() + "/"
		navigate := func(to string) string {
			act(b, chromedp.Navigate(base+to))
			return b.html()
		}
		html := navigate("")
		for _, text := range []string{
			"https://proxy.example/v1/", "https://lab.example/v1/", "unmanaged", "soft-deleted", "provider_key.create", "Slot lag", "this worker, session",
			"Without JavaScript: reload for news.",
		} {
			require.Contains(t, html, text)
		}
		html = navigate("?q=sync&state=in_sync")
		require.Contains(t, html, "https://gateway.example/v1/")
		require.NotContains(t, html, "lab.example")
		call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: false})
		act(b, chromedp.Navigate(base))
		b.until(`document.getElementById("live").textContent === "Live updates"`)
	}

	looks("")
	byAScreenReader()
	byKeyboard()
	withoutJavaScript()
	ofManyTargets()
	b.until(`document.getElementById("live").textContent === "Live updates"`)
	b.mu.Lock()
	require.Empty(t, b.problems, "errors of the page")
	b.mu.Unlock()

	// An open page does not keep the worker from stopping.
	p.stop()
	b.until(`document.getElementById("live").textContent === "Disconnected, retrying"`)
	b.until(`document.getElementById("worker-health").textContent === "◌ not known"`)
	b.html()
}
