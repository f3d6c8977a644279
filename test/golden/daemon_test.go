//go:build e2e

package golden

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
	"provwatch/internal/workertest"
)

// address returns the address that the worker serves HTTP on.
func (p *worker) address() string {
	p.t.Helper()
	return regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(p.WaitFor(`msg="serving HTTP"`))[1]
}

// get fetches a page of the worker. Of a page that goes on it reads nothing.
func (p *worker) get(path, token string) (status int, header http.Header, body string) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(waittest.Context(p.t))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address()+path, nil)
	require.NoError(p.t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	require.NoError(p.t, err)
	defer func() { _ = response.Body.Close() }()
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return response.StatusCode, response.Header, ""
	}
	content, err := io.ReadAll(response.Body)
	require.NoError(p.t, err)
	return response.StatusCode, response.Header, string(content)
}

// metrics returns what /metrics has of provwatch, without values.
func (p *worker) metrics() []string {
	p.t.Helper()
	status, _, body := p.get("/metrics", "")
	require.Equal(p.t, http.StatusOK, status)
	var lines []string
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "# HELP provwatch_"), strings.HasPrefix(line, "# TYPE provwatch_"):
			lines = append(lines, line)
		case strings.HasPrefix(line, "provwatch_"):
			lines = append(lines, line[:strings.LastIndex(line, " ")])
		}
	}
	return lines
}

// endpoints returns how the worker answers each path.
func (p *worker) endpoints(token string, paths ...string) string {
	p.t.Helper()
	var b strings.Builder
	for _, path := range paths {
		status, header, body := p.get(path, token)
		fmt.Fprintf(&b, "GET %s\n  %d %s\n", path, status, header.Get("Content-Type"))
		for _, name := range []string{"Location", "WWW-Authenticate"} {
			if value := header.Get(name); value != "" {
				fmt.Fprintf(&b, "  %s: %s\n", name, value)
			}
		}
		if strings.HasPrefix(header.Get("Content-Type"), "text/plain") && len(body) < 1000 && !strings.HasPrefix(path, "/debug") {
			b.WriteString(indented(strings.TrimSuffix(body, "\n") + "\n"))
		}
	}
	return b.String()
}

// kindOf names what a payload is about, of a channel.
func kindOf(t *testing.T, n note) string {
	t.Helper()
	if !strings.HasPrefix(n.payload, "{") {
		if n.payload == "" {
			return "empty"
		}
		return "hint"
	}
	var p struct {
		Kind, Action, Event string
		Truncated, Silenced bool
		Repeats             int64
	}
	require.NoError(t, json.Unmarshal([]byte(n.payload), &p))
	kind := p.Kind + p.Action + p.Event
	if kind == "" {
		kind = "seeded"
	}
	if p.Truncated {
		kind += ", truncated"
	}
	if p.Silenced {
		kind += ", silenced"
	}
	if p.Repeats != 0 {
		kind += ", repeated"
	}
	return kind
}

// pretty returns JSON with one member per line, in its own order. It returns any other text
// unchanged.
func pretty(text string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return b.String()
}

// comparePayloads compares the first payload of each channel and kind.
func (w *world) comparePayloads(name string) {
	w.t.Helper()
	first := map[string]string{}
	for _, n := range w.published() {
		kind := kindOf(w.t, n)
		key := n.channel + ": " + kind
		// A worker that begins to lead publishes these before or after it knows its source.
		if kind == "sink_gap" || kind == "reconnected" {
			n.payload = strings.Replace(n.payload, `"source":"notify",`, "", 1)
		}
		if _, seen := first[key]; !seen {
			first[key] = pretty(n.payload)
		}
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(first)) {
		fmt.Fprintf(&b, "# %s\n%s\n\n", key, first[key])
	}
	compare(w.t, name, w.text(b.String()))
}

// change runs statements and waits for their alert.
func (w *world) change(seq int, statements ...string) {
	w.t.Helper()
	for _, statement := range statements {
		w.exec(statement)
	}
	w.alerted(seq)
}

// alerted waits until an alert is published.
func (w *world) alerted(seq int) {
	w.t.Helper()
	w.waitForNote("ai_provider_drift", fmt.Sprintf(`"seq":%d,`, seq))
}

// TestDaemon has a worker with each sink that lives through everything that it publishes
// by the source notify.
func TestDaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "notify")
	// A run of characters that JSON escapes makes a payload too long.
	w.own = append(w.own, pattern{regexp.MustCompile(`(?:&|\\u0026){20,}`), "&…"})
	r := newReceiver(t)
	w.replace(r.url, "<receiver>")
	natsURL, stream := startNATS(t)
	require.Equal(t, 0, w.run(nil, "migrate").Code)
	w.listen()
	w.env["PROVWATCH_MAX_BACKOFF"] = "1s"
	file := w.file("providers.env", "CODER_AIBRIDGE_OPENAI_KEY="+openAIKey+"\nCODER_AIBRIDGE_ANTHROPIC_KEY="+anthropicKey+"\n")
	args := []string{
		"run", "--env-file=" + file, "--http-addr=127.0.0.1:0", "--announce-seed", "--cluster-name=golden", "--on-boot-drift=alert",
		"--webhook-url=" + r.url + "/webhook", "--webhook-secret-file=" + w.file("secret", webhookSecret),
		"--alertmanager-url=" + r.url + "/alertmanager", "--alertmanager-runbook-url=https://runbook.example/", "--nats-url=" + natsURL,
	}
	p := w.startReady(nil, args...)
	env := workertest.TwoProviders()
	resolve := func(args ...string) {
		t.Helper()
		result := w.run(env, append([]string{"resolve"}, args...)...)
		require.Equal(t, 0, result.Code, result.Stderr)
	}

	w.change(1, `UPDATE ai_providers SET base_url = 'https://user:`+urlPassword+`@proxy.example/v1?k=1' WHERE name = 'openai'`)
	resolve("openai", "--take=env")
	w.alerted(2)
	w.change(3, `UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	resolve("openai", "--take=db")
	w.alerted(4)
	w.change(5, `UPDATE ai_providers SET deleted = true WHERE name = 'anthropic'`)
	w.change(6, `DELETE FROM ai_providers WHERE name = 'anthropic'`)
	resolve("anthropic", "--take=env", "--with-keys")
	w.alerted(7)
	w.change(8, `UPDATE ai_providers SET base_url = 'https://proxy.example/' || repeat('&', 4000) WHERE name = 'anthropic'`)
	w.change(9, `UPDATE ai_providers SET base_url = 'https://api.anthropic.com/' WHERE name = 'anthropic'`)
	w.exec(`UPDATE ai_provider_keys SET api_key = $1 WHERE api_key = $2`, rotatedKey, anthropicKey)
	resolve("anthropic", "--take=env", "--with-keys")
	w.waitForNote("ai_provider_audit", `"action":"provider_key.delete"`)
	w.compareSinks(r, stream)

	r.refuseAlerts(true)
	w.change(10, `UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'anthropic'`)
	w.waitForNote("provwatch_status", `"event":"dead_letter"`)
	w.sinksHaveAll()
	s := transcript{w: w}
	s.run(env, "status")
	s.run(env, "status", "-o", "json")
	compare(t, "commands/status.txt", squeezed(s.normalised()))
	s = transcript{w: w}
	s.run(nil, "sinks", "list")
	s.run(nil, "sinks", "list", "-o", "json")
	s.run(nil, "sinks", "retry", "webhook", "7")
	s.run(nil, "sinks", "retry", "webhok", "--all")
	s.run(nil, "sinks", "retry", "webhook", "10", "--stream=x")
	s.run(nil, "sinks", "retry", "webhook", "10", "--stream=audit")
	r.refuseAlerts(false)
	s.note("the webhook takes it")
	s.run(nil, "sinks", "retry", "webhook", "10", "--stream=drift")
	w.until("the dead letter is delivered", `SELECT NOT EXISTS (SELECT FROM provwatch.sink_dead_letters)`)
	s.run(nil, "sinks", "retry", "--all", "-o", "json")
	s.run(nil, "sinks", "list")
	compare(t, "commands/sinks.txt", s.normalised())
	w.compareWatch(10)

	compare(t, "metrics.txt", strings.Join(p.metrics(), "\n"))
	compare(t, "endpoints.txt", w.text(p.endpoints("", "/", "/events", "/style.css", "/script.js", "/healthz", "/readyz", "/metrics", "/nothing", "/debug/pprof/")))

	p.Signal(syscall.SIGHUP)
	w.waitForNote("provwatch_status", `"event":"reloaded"`)
	w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'provwatch%'`)
	w.waitForNote("provwatch_status", `"event":"reconnected"`)
	require.Equal(t, 0, p.stop(syscall.SIGTERM))
	w.waitForNote("provwatch_status", `"event":"stopping"`)

	w.exec(`DELETE FROM provwatch.drift_alerts WHERE seq <= 3`)
	w.exec(`UPDATE provwatch.sink_cursors SET seq = 0 WHERE sink = 'webhook' AND stream = 'drift'`)
	token := "token-of-the-status-page"
	p = w.startReady(nil, append(args, "--debug", "--http-token-file="+w.file("token", token))...)
	w.waitForNote("provwatch_status", `"event":"sink_gap"`)
	guarded := []string{"/", "/events", "/style.css", "/healthz", "/readyz", "/metrics", "/debug/pprof/"}
	compare(t, "endpoints-token.txt", "# without the token\n"+w.text(p.endpoints("", guarded...))+"\n# with the token\n"+w.text(p.endpoints(token, guarded...)))
	require.Equal(t, 0, p.stop(syscall.SIGTERM))
	w.comparePayloads("payloads-notify.txt")
}

// compareWatch compares what "worker watch" prints of the alerts up to the last one.
func (w *world) compareWatch(last int) {
	w.t.Helper()
	s := transcript{w: w}
	for _, form := range []string{"text", "json"} {
		args := []string{"watch", "--since=0", "-o", form}
		watch := w.start(nil, args...)
		// The last alert is printed as two lines, or as one of JSON.
		end := fmt.Sprintf("#%d  ", last)
		if form == "json" {
			end = fmt.Sprintf(`"seq":%d,`, last)
		}
		waittest.Until(w.t, func() bool {
			out := watch.Output()
			at := slices.IndexFunc(out, func(line string) bool { return strings.Contains(line, end) })
			return at >= 0 && (form == "json" || at < len(out)-1)
		}, "alert %d is printed", last)
		code := watch.stop(syscall.SIGTERM)
		// The log says when it connects, in lines that depend on when it does.
		s.add(nil, args, result{Code: code, Stdout: strings.Join(watch.Output(), "\n") + "\n"})
	}
	compare(w.t, "commands/watch.txt", s.normalised())
}

// TestDaemonWAL has what differs with the source wal.
func TestDaemonWAL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "wal")
	env := workertest.TwoProviders()
	require.Equal(t, 0, w.run(nil, "migrate").Code)
	w.listen()
	p := w.startReady(env, "run", "--http-addr=127.0.0.1:0")
	w.change(1, `UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`)
	w.change(2, `UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/' WHERE name = 'openai'`)
	var slot []string
	waittest.Until(t, func() bool {
		slot = slices.DeleteFunc(p.metrics(), func(line string) bool { return !strings.Contains(line, "provwatch_slot_") })
		return strings.Contains(strings.Join(slot, "\n"), `provwatch_slot_wal_status{status="lost"}`)
	}, "the slot is looked at")
	compare(t, "metrics-wal.txt", strings.Join(slot, "\n"))
	s := transcript{w: w}
	s.run(env, "status")
	s.run(env, "status", "-o", "json")
	compare(t, "commands/status-wal.txt", squeezed(s.normalised()))
	require.Equal(t, 0, p.stop(syscall.SIGTERM))

	w.exec(`UPDATE provwatch.alert_counter SET last_seq = last_seq`)
	p = w.startReady(env, "run")
	w.waitForNote("ai_provider_drift", `"kind":"rewound"`)
	require.Equal(t, 0, p.stop(syscall.SIGTERM))
	s = transcript{w: w}
	s.run(nil, "slot", "drop")
	s.run(nil, "slot", "drop")
	s.run(nil, "slot", "drop", "-o", "json")
	compare(t, "commands/slot.txt", s.normalised())
	s = transcript{w: w}
	s.run(nil, "sinks", "list")
	s.run(nil, "sinks", "list", "-o", "json")
	s.run(nil, "sinks", "retry", "webhook", "--all")
	compare(t, "commands/sinks-none.txt", s.normalised())
	p = w.startReady(env, "run")
	w.waitForNote("ai_provider_drift", `"kind":"gap"`)
	require.Equal(t, 0, p.stop(syscall.SIGTERM))
	w.comparePayloads("payloads-wal.txt")
}
