//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/alertmanagertest"
	"provwatch/internal/pubsub"
)

// newSinkWorld is newWorldOf with roles that have what sinks take as well.
func newSinkWorld(t *testing.T, source string) *world {
	t.Helper()
	w := newWorldOf(t, source)
	w.createRole("test_sinks_"+source, "REPLICATION IN ROLE provwatch_"+source+", provwatch_sinks")
	w.login["run"], w.login["sinks"] = "test_sinks_"+source, "test_operator"
	return w
}

// delivery is a CloudEvent that a sink was sent.
type delivery struct {
	ID, Type, Source, Subject string
	Data                      struct {
		Seq          int64
		Kind, Action string
	}
}

func (d delivery) String() string { return d.Data.Kind + d.Data.Action + " " + d.Subject }

// endpoint is a webhook's receiver.
type endpoint struct {
	url string

	mu    sync.Mutex
	sent  []delivery
	reply func(http.ResponseWriter, *http.Request, delivery) // nil to acknowledge
}

func (w *world) endpoint() *endpoint {
	w.t.Helper()
	e := &endpoint{}
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.emit(string(body))
		var d delivery
		if err := json.Unmarshal(body, &d); err != nil {
			w.t.Errorf("%v: %s", err, body)
		}
		e.mu.Lock()
		reply := e.reply
		e.sent = append(e.sent, d)
		e.mu.Unlock()
		if reply != nil {
			reply(out, r, d)
		}
	}))
	w.t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

func (e *endpoint) answer(reply func(http.ResponseWriter, *http.Request, delivery)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reply = reply
}

// got returns what was sent of a stream so far, repeats included.
func (e *endpoint) got(stream string) (list []delivery) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.sent {
		if d.Type == "dev.provwatch."+stream+".v1" {
			list = append(list, d)
		}
	}
	return list
}

// once returns what was sent without repeats, each "kind provider".
func once(deliveries []delivery) (list []string) {
	seen := map[string]bool{}
	for _, d := range deliveries {
		if !seen[d.ID] {
			list = append(list, d.String())
		}
		seen[d.ID] = true
	}
	return list
}

// webhook returns an environment with a webhook at the endpoint.
func (w *world) webhook(e *endpoint) environ {
	w.t.Helper()
	return w.twoProviders().
		With("PROVWATCH_WEBHOOK_URL", e.url+"/?token="+w.secret("token-of-the-webhook")).
		With("PROVWATCH_WEBHOOK_SECRET_FILE", w.file("secret", w.secret("secret-of-the-webhook")))
}

func TestSinks(t *testing.T) {
	t.Parallel()
	t.Run("KilledBeforeTheCursorMoves", testSinksKilledBeforeTheCursorMoves)
	t.Run("HangingDelaysNoOther", testSinksHangingDelaysNoOther)
	t.Run("Alertmanager", testSinksAlertmanager)
	t.Run("DeadLetters", testSinksDeadLetters)
	t.Run("WrongConfiguration", testSinksWrongConfiguration)
}

// testSinksKilledBeforeTheCursorMoves kills the
// worker while each of its alerts is being sent, before or after it is answered.
func testSinksKilledBeforeTheCursorMoves(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			w := newSinkWorld(t, source)
			e := w.endpoint()
			env := w.webhook(e)
			p := w.start(env, "run").ready()
			// What the first seed wrote is sent, too.
			eventually(t, func() bool { return len(once(e.got("audit"))) == 4 }, "audit entries of the seed")

			var want []string
			for i := range 3 {
				killed := make(chan struct{})
				var kill sync.Once
				e.answer(func(out http.ResponseWriter, r *http.Request, d delivery) {
					if strings.HasPrefix(d.Type, "dev.provwatch.audit") {
						return
					}
					kill.Do(func() {
						if i == 1 { // acknowledged, and not yet noted
							_ = http.NewResponseController(out).Flush()
						}
						_ = p.command.Process.Kill()
						close(killed)
					})
				})
				kind := []string{"disabled openai", "resolved openai"}[i%2]
				want = append(want, kind)
				w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
				<-killed
				require.Equal(t, -1, p.wait())
				e.answer(nil)
				p = w.start(env, "run", "--on-boot-drift=alert").ready()
				eventually(t, func() bool { return slices.Equal(once(e.got("drift")), want) }, "%q, have %q", want, lazily(func() []string { return once(e.got("drift")) }))
			}
			eventually(t, func() bool {
				return w.count(`SELECT min(seq) FROM provwatch.sink_cursors WHERE stream = 'drift'`) == len(want)
			}, "the cursor is at the end")
			w.expectAlerts(want...)
			require.Greater(t, len(e.got("drift")), len(want), "what was not acknowledged is repeated")
			// Repeated or not, the alerts of a provider are in order.
			highest := int64(0)
			for _, d := range e.got("drift") {
				require.LessOrEqual(t, d.Data.Seq, highest+1)
				highest = max(highest, d.Data.Seq)
			}
			p.stop()
		})
	}
}

func testSinksHangingDelaysNoOther(t *testing.T) {
	t.Parallel()
	w := newSinkWorld(t, "wal")
	e := w.endpoint()
	e.answer(func(_ http.ResponseWriter, r *http.Request, _ delivery) { <-r.Context().Done() })
	var mu sync.Mutex
	firing := map[string]string{} // kinds by provider
	alertmanager := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var alerts []struct {
			Labels           map[string]string
			StartsAt, EndsAt string
		}
		if err := json.NewDecoder(r.Body).Decode(&alerts); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, a := range alerts {
			name, kind := a.Labels["provider"], a.Labels["kind"]
			if a.StartsAt != a.EndsAt {
				firing[name] = kind
			} else if firing[name] == kind {
				delete(firing, name)
			}
		}
	}))
	t.Cleanup(alertmanager.Close)
	p := w.start(w.webhook(e), "run", "--alertmanager-url", alertmanager.URL).ready()
	eventually(t, func() bool { return len(e.got("audit")) > 0 }, "the webhook hangs")
	var want []string
	for i := range 6 {
		kind := []string{"disabled openai", "resolved openai"}[i%2]
		want = append(want, kind)
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
		w.expectAlerts(want...)
		eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return (firing["openai"] == "disabled") == (i%2 == 0)
		}, "Alertmanager is told of %s", kind)
	}
	require.Len(t, once(e.got("drift")), 1, "in order")

	var state struct {
		Sinks []struct {
			Sink, Stream string
			Seq, Behind  int64
		}
	}
	eventually(t, func() bool {
		r := w.run(nil, "sinks", "list", "-o", "json")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.NoError(t, json.Unmarshal([]byte(r.Stdout), &state))
		return state.Sinks[0].Behind == 0
	}, "what is acknowledged is noted")
	require.Equal(t, "[{alertmanager drift 6 0} {webhook drift 0 6} {webhook audit 0 4}]", fmt.Sprint(state.Sinks))
	p.stop()
	require.Zero(t, p.logged("level=ERROR"))
}

// testSinksAlertmanager kills the worker,
// and Alertmanager, which forgets all alerts.
func testSinksAlertmanager(t *testing.T) {
	t.Parallel()
	alertmanager := alertmanagertest.Start(t)
	w := newSinkWorld(t, "wal")
	notified := func() (list []string) {
		for _, alert := range alertmanager.Notified() {
			list = append(list, alert.String())
		}
		return list
	}
	var want []string
	expect := func(next ...string) {
		t.Helper()
		want = append(want, next...)
		eventually(t, func() bool { return slices.Equal(notified(), want) }, "%q, have %s", want, lazily(notified))
	}
	start := func() *worker {
		return w.start(w.twoProviders(), "run", "--on-boot-drift=alert", "--alertmanager-url="+alertmanager.URL, "--alertmanager-runbook-url=https://wiki.example/provwatch", "--cluster-name=eu 1").ready()
	}
	p := start()
	const ours = `UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/' WHERE name = 'openai'`
	w.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere.example/' WHERE name = 'openai'`)
	expect("firing changed openai")
	fired := alertmanager.Notified()[0]
	require.Equal(t, map[string]string{"alertname": "ProviderDrift", "provider": "openai", "kind": "changed", "cluster": "eu 1"}, fired.Labels)
	require.Equal(t, map[string]string{
		"summary":     "AI provider openai: changed, unlike the environment asks for",
		"fields":      `base_url: environment "https://api.openai.com/v1/", database "https://elsewhere.example/"`,
		"runbook_url": "https://wiki.example/provwatch",
		"alert_id":    w.strings(`SELECT id::text FROM provwatch.drift_alerts`)[0], "seq": "1", "moved": "database",
	}, fired.Annotations)
	require.Equal(t, 1, w.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE detected_at = $1`, fired.StartsAt))

	p.kill9()
	alertmanager.Stop()
	alertmanager.StartAgain()
	p = start()
	expect("firing changed openai")

	p.kill9()
	w.exec(ours)
	p = start()
	expect("resolved changed openai")
	require.Equal(t, fired.Annotations, alertmanager.Notified()[2].Annotations)

	// So it is by the operator's word.
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
	expect("firing disabled anthropic")
	require.Equal(t, 0, w.run(w.twoProviders(), "resolve", "anthropic", "--take=env").Code)
	expect("resolved disabled anthropic")
	require.Empty(t, alertmanager.Firing())
	p.stop()
	require.Zero(t, w.count(`SELECT count(*) FROM provwatch.sink_dead_letters`))
}

func testSinksDeadLetters(t *testing.T) {
	t.Parallel()
	w := newSinkWorld(t, "notify")
	e := w.endpoint()
	e.answer(func(out http.ResponseWriter, _ *http.Request, d delivery) {
		if d.Data.Kind != "" {
			out.WriteHeader(http.StatusGone)
		}
	})
	p := w.start(w.webhook(e), "run", "--http-addr=127.0.0.1:0", "--cluster-name=tested").ready()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	p.waitFor("level=ERROR", "delivery abandoned, event dead-lettered", "seq=1", `error="HTTP 410 Gone"`, `remedy="worker sinks retry webhook 1"`)
	eventually(t, func() bool {
		return slices.ContainsFunc(w.payloads(pubsub.Statuses), func(payload string) bool {
			return strings.Contains(payload, `"event":"dead_letter"`) && strings.Contains(payload, `"reason":"sink webhook, drift 1: HTTP 410 Gone"`)
		})
	}, "a status says so")
	require.EqualValues(t, 1, p.metric("provwatch_sink_dead_letters_total"))
	r := w.run(nil, "sinks", "list")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Regexp(t, `(?m)^webhook +drift +1 +openai +1 +\S+Z  HTTP 410 Gone$`, r.Stdout)

	r = w.run(nil, "sinks", "retry", "webhook", "7")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, "sink webhook has no such dead letter")
	r = w.run(nil, "sinks", "retry", "webhok", "--all")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, "there is no sink of that name: there are webhook; did you mean webhook?\n")
	for _, args := range []string{"", "webhook", "webhook x", "1", "webhook --all 1", "webhook 1 --stream=x"} {
		require.Equal(t, 3, w.run(nil, append([]string{"sinks", "retry"}, strings.Fields(args)...)...).Code, args)
	}
	e.answer(nil)
	r = w.run(nil, "sinks", "retry", "webhook", "1")
	require.Equal(t, 0, r.Code, r.Stderr)
	eventually(t, func() bool { return w.count(`SELECT count(*) FROM provwatch.sink_dead_letters`) == 0 }, "the webhook takes it")
	require.Equal(t, []string{"disabled openai"}, once(e.got("drift")))
	require.GreaterOrEqual(t, len(e.got("drift")), 2)
	p.stop()
}

func testSinksWrongConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := w.file("secret", w.secret("secret-of-the-webhook"))
	hidden := w.secret("hidden-in-the-url")
	for args, problem := range map[string]string{
		"--webhook-url=https://h/ --webhook-secret-file=" + w.file("short", w.secret("a-short-secret")): "--webhook-secret-file (or PROVWATCH_WEBHOOK_SECRET_FILE) cannot be used: a secret in ",
		"--webhook-url=https://h/ --webhook-ca-file=" + file + " --webhook-secret-file=" + file:         "--webhook-ca-file (or PROVWATCH_WEBHOOK_CA_FILE) cannot be used: ",
		"--nats-url=nats://h --nats-creds=" + file + "-not":                                             "--nats-creds (or PROVWATCH_NATS_CREDS) cannot be used: ",
		"--webhook-url=https://h/": "--webhook-secret-file (or PROVWATCH_WEBHOOK_SECRET_FILE) is needed by --webhook-url",
		"--webhook-url=ftp://h/" + hidden + " --webhook-secret-file=" + file: "--webhook-url (or PROVWATCH_WEBHOOK_URL) cannot be used: want an absolute http or https URL",
		"--webhook-url=https://h/ --webhook-secret-file=" + file + "-not":    "no such file",
		"--alertmanager-ca-file=" + file:                                     "--alertmanager-url (or PROVWATCH_ALERTMANAGER_URL) is needed by --alertmanager-ca-file",
		"--alertmanager-url=http://" + hidden + "%zz":                        "--alertmanager-url (or PROVWATCH_ALERTMANAGER_URL) cannot be used",
		"--alertmanager-url=http://h --alertmanager-runbook-url=here":        "must be an absolute URL",
		"--nats-url=nats://u:" + hidden + "@h,http://x":                      "--nats-url (or PROVWATCH_NATS_URL) cannot be used: want URLs such as nats://host:4222",
		"--nats-stream=S":       "--nats-url (or PROVWATCH_NATS_URL) is needed by --nats-stream",
		"--sink-from=beginning": "--sink-from (or PROVWATCH_SINK_FROM) must be one of start, end",
		"--sink-give-up=0s":     "--sink-give-up (or PROVWATCH_SINK_GIVE_UP) must be positive",
	} {
		r := w.run(w.twoProviders().With("DATABASE_URL", "postgres://127.0.0.1:1/none"), append([]string{"run"}, strings.Fields(args)...)...)
		require.Equal(t, 3, r.Code, "%s: %s", args, r.Stderr)
		require.Contains(t, r.Stderr, problem)
	}
	// A role that reads no alerts is told so.
	e := w.endpoint()
	r := w.run(w.webhook(e), "run")
	require.Equal(t, 4, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, `GRANT SELECT ON TABLE provwatch.audit_log TO "test_wal";`)
}
