//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// silenceAlerts silences providers, or all without names, for the time given, and returns the
// ids of the silences.
func (w *world) silenceAlerts(lasts string, names ...string) (ids []int64) {
	w.t.Helper()
	if len(names) == 0 {
		names = []string{"--all"}
	}
	r := w.run(nil, append([]string{"silence", "--for", lasts, "--reason", "maintenance", "-o", "json"}, names...)...)
	require.Equal(w.t, 0, r.Code, r.Stderr)
	var printed struct{ Silences []struct{ ID int64 } }
	require.NoError(w.t, json.Unmarshal([]byte(r.Stdout), &printed))
	for _, s := range printed.Silences {
		ids = append(ids, s.ID)
	}
	return ids
}

// unsilence ends a silence.
func (w *world) unsilence(id int64) {
	w.t.Helper()
	r := w.run(nil, "unsilence", fmt.Sprint(id))
	require.Equal(w.t, 0, r.Code, r.Stderr)
}

// silencedAlerts returns the alerts in order, each with whether it is silenced, what it repeats
// and what it ends.
func (w *world) silencedAlerts() []string {
	w.t.Helper()
	return w.strings(`SELECT concat_ws(' ', seq, kind, nullif(provider, ''), CASE WHEN silenced THEN 'silenced' END, 'repeats ' || repeats, 'ends ' || resolves)
		FROM provwatch.drift_alerts ORDER BY seq`)
}

func TestSilence(t *testing.T) {
	t.Parallel()
	t.Run("Commands", testSilenceCommands)
	t.Run("Mistakes", testSilenceMistakes)
	t.Run("Sinks", func(t *testing.T) {
		t.Parallel()
		bothSourcesOf(t, newSinkWorld, testSilenceSinks)
	})
	t.Run("Outlived", func(t *testing.T) {
		t.Parallel()
		bothSourcesOf(t, newSinkWorld, testSilenceOutlived)
	})
	t.Run("Failover", func(t *testing.T) {
		t.Parallel()
		bothSourcesOf(t, newSinkWorld, testSilenceFailover)
	})
}

// testSilenceCommands runs the commands as an operator, without a worker and with one.
func testSilenceCommands(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t, "notify")
	env := w.twoProviders()
	require.Equal(t, 0, w.run(env, "seed").Code)
	const rfc3339 = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`

	r := w.run(nil, "silences")
	require.Equal(t, result{Code: 0, Stdout: "No silences.\n"}, r)
	r = w.run(env, "silence", "openai", "not-there-yet", "openai", "--for", "2h", "--reason", "a new proxy")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Regexp(t, `^Silence 1: alerts of openai do not go to sinks until `+rfc3339+`\.
Silence 2: alerts of not-there-yet do not go to sinks until `+rfc3339+`\.
Audit entries are staged\. No worker runs; the next one delivers them\.
$`, r.Stdout)
	require.Empty(t, r.Stderr)
	r = w.run(env, "silence", "--all", "--until", time.Now().Add(time.Hour).Format(time.RFC3339), "--reason", "upgrade", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, `"provider": "*"`)
	require.Contains(t, r.Stdout, `"audit": "staged"`)
	r = w.run(env, "silence", "openia", "--for", "1s", "--reason", "a typing mistake")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "the environment names no provider of that name, which is silenced all the same")
	require.Contains(t, r.Stderr, "nearest=openai")

	p := w.start(env, "run").ready()
	r = w.run(nil, "unsilence", "2")
	require.Equal(t, result{Code: 0, Stdout: "Silence 2 of not-there-yet is over.\n"}, r)
	r = w.run(nil, "unsilence", "2", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, `"changed": false`)
	r = w.run(nil, "unsilence", "2")
	require.Regexp(t, `^Silence 2 had ended at `+rfc3339+`; nothing was written\.\n$`, r.Stdout)

	var printed struct {
		Silences []struct {
			ID       int64
			Provider string
			Author   string
			Reason   string
			Active   bool
			EndedBy  string `json:"ended_by"`
		}
		More bool
	}
	list := func(args ...string) (ids []int64) {
		t.Helper()
		r := w.run(nil, append([]string{"silences", "-o", "json"}, args...)...)
		require.Equal(t, 0, r.Code, r.Stderr)
		require.NoError(t, json.Unmarshal([]byte(r.Stdout), &printed))
		for _, s := range printed.Silences {
			ids = append(ids, s.ID)
		}
		return ids
	}
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM provwatch.silences WHERE id = 4 AND ends_at > now()`) == 0
	}, "the mistyped one ends")
	require.Equal(t, []int64{3, 1}, list())
	require.Equal(t, w.operator(), printed.Silences[1].Author)
	require.Equal(t, "a new proxy", printed.Silences[1].Reason)
	w.exec(`UPDATE provwatch.silences SET ends_at = begins_at WHERE id = 4`)
	require.Equal(t, []int64{3, 1, 2, 4}, list("--all"))
	require.Equal(t, w.operator(), printed.Silences[2].EndedBy)
	require.False(t, printed.Silences[2].Active)
	r = w.run(nil, "silences", "--all")
	require.Equal(t, 5, strings.Count(r.Stdout, "\n"), r.Stdout)
	require.Contains(t, r.Stdout, "all providers")
	require.Contains(t, r.Stdout, "expired")
	w.login["silences"] = "test_reader"
	require.Equal(t, []int64{3, 1}, list())

	require.Equal(t, []string{"silence.create * ", "silence.create not-there-yet ", "silence.create openai ", "silence.create openia ", "silence.end not-there-yet "},
		w.delivered(`SELECT action || ' ' || provider || ' ' || coalesce(provider_id::text, '') FROM provwatch.audit_log WHERE actor = '`+w.operator()+`' ORDER BY action, provider`))

	// A drift is a drift: exit codes do not change.
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	eventually(t, func() bool { return len(w.alerts()) == 1 }, "the drift is recorded")
	require.Equal(t, []string{"1 disabled openai silenced"}, w.silencedAlerts())
	p.waitFor("level=INFO", "msg=drift", "provider=openai", "silenced=true")
	require.Equal(t, 2, w.run(env, "verify").Code)
	w.exec(`UPDATE ai_providers SET base_url = 'https://other.example/' WHERE name = 'openai'`)
	p.stop()
	require.Equal(t, 2, w.run(env, "run").Code)
}

// testSilenceMistakes has calls that change nothing.
func testSilenceMistakes(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	before := w.dump()
	for want, args := range map[string][]string{
		"name the providers to silence, or give --all":                   {"silence", "--for=1h", "--reason=r"},
		"give names or --all, not both":                                  {"silence", "openai", "--all", "--for=1h", "--reason=r"},
		"give the end of the silence: --for a duration":                  {"silence", "openai", "--reason=r"},
		"give one end of the silence: --for or --until, not both":        {"silence", "openai", "--for=1h", "--until=2100-01-01T00:00:00Z", "--reason=r"},
		"--for must be a positive duration, such as 2h or 3d":            {"silence", "openai", "--for=-1h", "--reason=r"},
		"--for must be a positive duration":                              {"silence", "openai", "--for=2", "--reason=r"},
		"--until must be a time with its zone":                           {"silence", "openai", "--until=2100-01-01", "--reason=r"},
		"--until must be in the future":                                  {"silence", "openai", "--until=2001-01-01T00:00:00Z", "--reason=r"},
		"--reason is needed":                                             {"silence", "openai", "--for=1h"},
		"--reason must be a text of at most 500 characters":              {"silence", "openai", "--for=1h", "--reason=" + strings.Repeat("x", 501)},
		"argument 2 is not the name of a provider":                       {"silence", "openai", "Open_AI", "--for=1h", "--reason=r"},
		"name the silence by its ID":                                     {"unsilence"},
		"the argument is not the ID of a silence":                        {"unsilence", "openai"},
		`the argument is not the ID of a silence; see "worker silences"`: {"unsilence", "0"},
		`"worker silences" takes no arguments`:                           {"silences", "openai"},
	} {
		r := w.run(environ{"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}, args...)
		require.Equal(t, 3, r.Code, "%q: %s", args, r.Stderr)
		require.Contains(t, r.Stderr, want)
	}
	r := w.run(nil, "unsilence", "7")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, "there is no silence with the id 7")
	for _, role := range []string{"test_reader", "test_notify"} {
		r := w.run(environ{"DATABASE_URL": w.withPassword(role)}, "silence", "openai", "--for=1h", "--reason=r")
		require.Equal(t, 4, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, "make it a member of provwatch_operator")
		require.Regexp(t, regexp.QuoteMeta(`GRANT INSERT (provider, author, reason, begins_at, ends_at) ON TABLE provwatch.silences TO "`+role+`"`), r.Stderr)
	}
	require.Equal(t, before, w.dump())
}

// testSilenceSinks has a drift before a silence, and another begin in it. The sink gets what
// is not silenced, and the end of the first. It is away meanwhile, and gets all of it later.
func testSilenceSinks(t *testing.T, w *world) {
	e := w.endpoint()
	env := w.webhook(e)
	w.start(env, "run").ready()
	eventually(t, func() bool { return len(e.got("audit")) == 4 }, "audit entries of the seed")
	set := func(name string, enabled bool, alerts int) {
		t.Helper()
		w.exec(`UPDATE ai_providers SET enabled = $2 WHERE name = $1`, name, enabled)
		eventually(t, func() bool { return len(w.alerts()) == alerts }, "%s is recorded", name)
	}
	e.answer(func(out http.ResponseWriter, _ *http.Request, _ delivery) {
		out.WriteHeader(http.StatusServiceUnavailable)
	})
	set("openai", false, 1)
	w.silenceAlerts("1h", "openai", "anthropic")
	set("anthropic", false, 2)
	set("openai", true, 3)
	set("anthropic", true, 4)
	w.exec(`UPDATE provwatch.silences SET ends_at = now()`)
	set("anthropic", false, 5)
	require.Equal(t, []string{
		"1 disabled openai", "2 disabled anthropic silenced", "3 resolved openai ends 1", "4 resolved anthropic silenced ends 2", "5 disabled anthropic",
	}, w.silencedAlerts())
	published := w.published(pubsub.DriftAlerts)
	require.Len(t, published, 5)
	for i, payload := range published {
		require.Equal(t, i == 1 || i == 3, strings.Contains(payload, `"silenced":true`), payload)
	}
	e.answer(nil)
	eventually(t, func() bool { return w.count(`SELECT seq FROM provwatch.sink_cursors WHERE stream = 'drift'`) == 5 }, "the sink has all")
	require.ElementsMatch(t, []string{"disabled openai", "resolved openai", "disabled anthropic"}, once(e.got("drift")))
	require.Zero(t, w.count(`SELECT count(*) FROM provwatch.sink_dead_letters`))
}

// testSilenceOutlived has drifts outlive their silences: the first expires, an operator ends the
// second, and the third expires while no worker runs. Each is alerted once more, and then goes to
// the sink. A drift that ends while no worker runs is not.
func testSilenceOutlived(t *testing.T, w *world) {
	e := w.endpoint()
	env := w.webhook(e).With("PROVWATCH_RESYNC", "1h")
	p := w.start(env, "run").ready()
	set := func(name string, enabled bool) {
		w.exec(`UPDATE ai_providers SET enabled = $2 WHERE name = $1`, name, enabled)
	}
	var want []string
	expect := func(more ...string) {
		t.Helper()
		want = append(want, more...)
		eventually(t, func() bool { return len(w.silencedAlerts()) >= len(want) }, "%q, have %q", want, lazily(w.silencedAlerts))
		require.Equal(t, want, w.silencedAlerts())
	}
	ids := w.silenceAlerts("1h", "openai", "anthropic")
	set("openai", false)
	expect("1 disabled openai silenced")
	set("anthropic", false)
	expect("2 disabled anthropic silenced")
	w.unsilence(ids[0])
	expect("3 disabled openai repeats 1")
	// It expires, which no command notifies of.
	w.exec(`UPDATE provwatch.silences SET ends_at = now() + interval '1 second' WHERE id = $1`, ids[1])
	w.exec(`NOTIFY provwatch_silences`)
	expect("4 disabled anthropic repeats 2")
	set("openai", true)
	expect("5 resolved openai ends 3")
	set("anthropic", true)
	expect("6 resolved anthropic ends 4")
	require.Equal(t, []string{"silence", "silence"}, w.strings(`SELECT source FROM provwatch.drift_alerts WHERE repeats IS NOT NULL`))
	p.waitFor("level=WARN", "msg=drift", "provider=openai", "source=silence", "repeats=1")

	w.silenceAlerts("1h")
	set("openai", false)
	expect("7 disabled openai silenced")
	set("anthropic", false)
	expect("8 disabled anthropic silenced")
	p.stop()
	w.exec(`UPDATE provwatch.silences SET ends_at = now()`)
	set("openai", true)
	p = w.start(env, "run").ready()
	expect("9 resolved openai silenced ends 7", "10 disabled anthropic repeats 8")
	p.stop()
	p = w.start(env, "run").ready()
	eventually(t, func() bool { return w.count(`SELECT seq FROM provwatch.sink_cursors WHERE stream = 'drift'`) == 10 }, "the sink has all")
	p.stop()
	require.Equal(t, want, w.silencedAlerts(), "a restart repeats nothing")
	require.Equal(t, byProvider([]string{"disabled openai", "disabled anthropic", "resolved openai", "resolved anthropic", "disabled anthropic"}), byProvider(once(e.got("drift"))))
}

// testSilenceFailover kills the leader while a silence lasts. The next one goes on with it: it
// silences what comes, and alerts what outlives the silence.
func testSilenceFailover(t *testing.T, w *world) {
	e := w.endpoint()
	env := w.webhook(e).With("PROVWATCH_RESYNC", "1h")
	first := w.start(env, "run").ready()
	second := w.start(env, "run").ready()
	set := func(name string, enabled bool) {
		w.exec(`UPDATE ai_providers SET enabled = $2 WHERE name = $1`, name, enabled)
	}
	expect := func(want ...string) {
		t.Helper()
		eventually(t, func() bool { return len(w.silencedAlerts()) >= len(want) }, "%q, have %q", want, lazily(w.silencedAlerts))
		require.Equal(t, want, w.silencedAlerts())
	}
	ids := w.silenceAlerts("1h")
	set("openai", false)
	expect("1 disabled openai silenced")
	first.kill9()
	second.waitFor("msg=leading")
	set("anthropic", false)
	expect("1 disabled openai silenced", "2 disabled anthropic silenced")
	set("anthropic", true)
	expect("1 disabled openai silenced", "2 disabled anthropic silenced", "3 resolved anthropic silenced ends 2")
	w.unsilence(ids[0])
	expect("1 disabled openai silenced", "2 disabled anthropic silenced", "3 resolved anthropic silenced ends 2", "4 disabled openai repeats 1")
	eventually(t, func() bool { return w.count(`SELECT seq FROM provwatch.sink_cursors WHERE stream = 'drift'`) == 4 }, "the sink has all")
	require.Equal(t, []string{"disabled openai"}, once(e.got("drift")))
	second.stop()
}
