//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// flip lets a provider drift, or ends that, and waits for the alert of a seq.
func (w *world) flip(name string, enabled bool, seq int) {
	w.t.Helper()
	w.exec(`UPDATE ai_providers SET enabled = $2 WHERE name = $1`, name, enabled)
	eventually(w.t, func() bool { return w.count(`SELECT last_seq FROM provwatch.alert_counter`) == seq }, "alert %d", seq)
}

// grow makes the alerts up to a seq, and all audit entries that are there, 100 days old.
func (w *world) grow(seq int) {
	w.t.Helper()
	w.exec(`UPDATE provwatch.drift_alerts SET detected_at = detected_at - interval '100 days' WHERE seq <= $1 AND detected_at > now() - interval '90 days'`, seq)
	w.exec(`UPDATE provwatch.audit_log SET delivered_at = delivered_at - interval '100 days' WHERE delivered_at > now() - interval '90 days'`)
}

// mayPrune has "worker run" and "worker prune" connect as a role that may prune, and that has
// sinks if the one of "worker run" has.
func (w *world) mayPrune() {
	w.t.Helper()
	role, groups := "test_pruner_"+w.source, "provwatch_"+w.source+", provwatch_pruner"
	if strings.HasPrefix(w.login["run"], "test_sinks_") {
		role, groups = role+"_sinks", groups+", provwatch_sinks"
	}
	w.createRole(role, "REPLICATION IN ROLE "+groups)
	w.login["run"], w.login["prune"] = role, role
}

// leftAlerts returns the seqs of the alerts that are left.
func (w *world) leftAlerts() []string {
	w.t.Helper()
	return w.strings(`SELECT seq::text FROM provwatch.drift_alerts ORDER BY seq`)
}

func TestRetention(t *testing.T) {
	t.Parallel()
	t.Run("Keep", func(t *testing.T) { bothSources(t, testRetentionKeep) })
	t.Run("Readers", testRetentionReaders)
	t.Run("SinkBehind", testRetentionSinkBehind)
	t.Run("Command", testRetentionCommand)
	t.Run("CommandRefused", testRetentionCommandRefused)
}

// testRetentionKeep starts a worker with --keep on a database whose history is old. It prunes,
// numbers alerts without a gap, and a restart finds nothing rewound.
func testRetentionKeep(t *testing.T, w *world) {
	w.mayPrune()
	env := w.twoProviders()
	p := w.start(env, "run").ready()
	for i := range 3 {
		w.flip("openai", false, 2*i+1)
		w.flip("openai", true, 2*i+2)
	}
	w.flip("anthropic", false, 7)
	w.flip("openai", false, 8)
	w.flip("openai", true, 9)
	p.stop()
	w.delivered(`SELECT ''`)
	w.grow(7)

	p = w.start(env, "run", "--keep=90d", "--on-boot-drift=alert", "--http-addr=127.0.0.1:0").ready()
	p.waitFor("old rows pruned", "older_than=2160h0m0s", "alerts=6", "alerts_up_to=6", "audit_entries=3", "audit_up_to=3", "acceptances=0", "silences=0")
	require.Equal(t, []string{"7", "8", "9"}, w.leftAlerts(), "the drift of anthropic lasts")
	require.Equal(t, []string{"audit 3", "drift 6"}, w.strings(`SELECT stream || ' ' || seq FROM provwatch.pruned ORDER BY stream`))
	series := p.series()
	require.Equal(t, 6.0, series[`provwatch_pruned_rows_total{table="drift_alerts"}`])
	require.Equal(t, 3.0, series[`provwatch_pruned_rows_total{table="audit_log"}`])
	w.flip("openai", false, 10)
	w.flip("anthropic", true, 11)
	p.stop()
	w.grow(11)

	p = w.start(env, "run", "--keep=90d", "--on-boot-drift=alert").ready()
	p.waitFor("old rows pruned", "alerts=3", "alerts_up_to=9")
	require.Equal(t, []string{"10", "11"}, w.leftAlerts(), "the drift of openai lasts, and the last one stays")
	w.flip("openai", true, 12)
	p.stop()
	require.Empty(t, w.rewinds())
	require.Zero(t, p.logged("rewound"))
	w.searchForSecrets()
}

// testRetentionReaders has readers whose position is below what was pruned: "worker watch", and the
// SQL of the README.
func testRetentionReaders(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.mayPrune()
	p := w.start(w.twoProviders(), "run").ready()
	w.flip("anthropic", false, 1)
	for i := range 3 {
		w.flip("openai", false, 2*i+2)
		w.flip("openai", true, 2*i+3)
	}
	w.grow(7)
	connected := w.start(nil, "watch", "--since", "5", "-o", "json")
	eventually(t, func() bool { return len(connected.printed()) == 2 }, "it is at the end")
	require.Equal(t, 0, w.run(nil, "prune", "--older-than=90d").Code)
	require.Equal(t, []string{"1", "7"}, w.leftAlerts())

	var watches []*worker
	for since, want := range map[string]struct {
		logged  int
		printed []string
	}{
		"0": {1, []string{"disabled anthropic", "resolved openai"}},
		"3": {1, []string{"resolved openai"}},
		"6": {0, []string{"resolved openai"}},
		"7": {0, nil},
	} {
		watch := w.start(nil, "watch", "--since", since, "-o", "json")
		watches = append(watches, watch)
		watch.waitFor("msg=listening")
		eventually(t, func() bool { return len(watch.printed()) == len(want.printed) }, "since %s: have %s", since, lazily(watch.printed))
		logged := func() int { return watch.logged("level=INFO", "alerts were pruned", "since="+since, "pruned_up_to=6") }
		eventually(t, func() bool { return logged() >= want.logged }, "since %s: it is logged", since)
		require.Equal(t, want.logged, logged(), since)
	}
	w.flip("anthropic", true, 8)
	for _, watch := range append(watches, connected) {
		eventually(t, func() bool {
			printed := watch.printed()
			return len(printed) > 0 && printed[len(printed)-1] == "resolved anthropic"
		}, "it goes on")
		require.LessOrEqual(t, watch.logged("pruned"), 1, "it is logged once")
		require.Zero(t, watch.logged("rewound"))
		watch.stop()
	}
	require.Equal(t, []string{"disabled openai", "resolved openai", "resolved anthropic"}, connected.printed())
	require.Zero(t, connected.logged("pruned"), "it has read what was pruned")

	r := w.recipe()
	r.read()
	require.Equal(t, []string{"disabled anthropic", "resolved openai", "resolved anthropic"}, r.got)
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```sql\n(SELECT seq FROM provwatch.pruned.*?)```").FindSubmatch(readme)
	require.NotNil(t, block)
	for position, want := range map[int64][]int64{0: {6}, 5: {6}, 6: nil, 8: nil} {
		rows, err := w.connectAs("test_reader").Query(t.Context(), string(block[1]), position)
		require.NoError(t, err)
		got, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		require.NoError(t, err)
		require.ElementsMatch(t, want, got, position)
	}
	p.stop()
}

// connectAs connects as a role of [world.createRole].
func (w *world) connectAs(role string) *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.withPassword(role))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(w.t.Context()) })
	return conn
}

// testRetentionSinkBehind has a sink that takes nothing while its events grow old. Nothing that it has
// not had is pruned, and it gets all of it.
func testRetentionSinkBehind(t *testing.T) {
	t.Parallel()
	w := newSinkWorld(t, "notify")
	w.mayPrune()
	e := w.endpoint()
	env := w.webhook(e).With("PROVWATCH_KEEP", "90d")
	p := w.start(env, "run").ready()
	w.flip("openai", false, 1)
	w.flip("openai", true, 2)
	eventually(t, func() bool { return w.count(`SELECT seq FROM provwatch.sink_cursors WHERE stream = 'drift'`) == 2 }, "the sink has two alerts")
	eventually(t, func() bool { return w.count(`SELECT seq FROM provwatch.sink_cursors WHERE stream = 'audit'`) == 4 }, "the sink has the entries of the seed")
	e.answer(func(out http.ResponseWriter, _ *http.Request, _ delivery) {
		out.WriteHeader(http.StatusServiceUnavailable)
	})
	want := []string{"disabled openai", "resolved openai"}
	for i := range 3 {
		w.flip("openai", false, 2*i+3)
		w.flip("openai", true, 2*i+4)
		want = append(want, "disabled openai", "resolved openai")
	}
	p.stop()
	w.grow(8)

	p = w.start(env, "run").ready()
	p.waitFor("old rows pruned", "alerts=2", "alerts_up_to=2")
	p.waitFor("level=WARN", "old rows stay: a sink has not had them", "sink=webhook", "stream=drift", "after_seq=2")
	require.Equal(t, []string{"3", "4", "5", "6", "7", "8"}, w.leftAlerts())
	r := w.run(environ{"DATABASE_URL": w.withPassword(w.login["prune"])}, "prune", "--older-than=90d", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.JSONEq(t, `{"dry_run": false, "older_than_seconds": 7776000, "alerts": 0, "alerts_up_to": 0, "audit_entries": 0, "audit_up_to": 0, "acceptances": 0, "silences": 0,
		"held_by": [{"sink": "webhook", "stream": "drift", "seq": 2}]}`, r.Stdout)
	e.answer(nil)
	eventually(t, func() bool { return w.count(`SELECT seq FROM provwatch.sink_cursors WHERE stream = 'drift'`) == 8 }, "the sink has all")
	require.Equal(t, want, once(e.got("drift")))
	require.Equal(t, 0, w.run(environ{"DATABASE_URL": w.withPassword(w.login["prune"])}, "prune", "--older-than=90d").Code)
	require.Equal(t, []string{"8"}, w.leftAlerts())
	require.Zero(t, p.logged("events deleted before delivery"))
	p.stop()
	for _, payload := range w.published(pubsub.Statuses) {
		require.NotContains(t, payload, "sink_gap")
	}
	w.searchForSecrets()
}

// testRetentionCommand prunes by hand: what it would delete, what it deletes, and the audit entry.
func testRetentionCommand(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.mayPrune()
	env := w.twoProviders()
	p := w.start(env, "run").ready()
	for i := range 2 {
		w.flip("openai", false, 2*i+1)
		w.flip("openai", true, 2*i+2)
	}
	w.delivered(`SELECT ''`)
	w.grow(4)
	r := w.run(nil, "prune", "--older-than=12w6d", "--dry-run")
	require.Equal(t, result{Code: 0, Stdout: "Would prune what is older than 90d: 3 alerts up to seq 3, 3 audit entries up to seq 3, 0 acceptances that no longer hold, 0 silences that have ended.\n"}, r)
	r = w.run(environ{"PROVWATCH_KEEP": "90d"}, "prune", "--dry-run", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.JSONEq(t, `{"dry_run": true, "older_than_seconds": 7776000, "alerts": 3, "alerts_up_to": 3, "audit_entries": 3, "audit_up_to": 3, "acceptances": 0, "silences": 0, "held_by": []}`, r.Stdout)
	require.Len(t, w.leftAlerts(), 4)
	r = w.run(nil, "prune", "--older-than=90d")
	require.Equal(t, result{Code: 0, Stdout: "Pruned what is older than 90d: 3 alerts up to seq 3, 3 audit entries up to seq 3, 0 acceptances that no longer hold, 0 silences that have ended.\n"}, r)
	require.Equal(t, []string{"4"}, w.leftAlerts())
	logged := w.delivered(`SELECT concat_ws(' ', seq, action, provider, details->'pruned'->>'alerts_up_to') FROM provwatch.audit_log ORDER BY seq`)
	require.Len(t, logged, 2)
	require.Equal(t, "5 history.prune * 3", logged[1])
	require.Regexp(t, `^operator:.`, w.strings(`SELECT actor FROM provwatch.audit_log WHERE seq = 5`)[0])
	eventually(t, func() bool { return len(w.payloads(pubsub.AuditEntries)) == 5 }, "it is published")
	var entry struct{ Action, Provider string }
	require.NoError(t, json.Unmarshal([]byte(w.payloads(pubsub.AuditEntries)[4]), &entry))
	require.Equal(t, "history.prune *", fmt.Sprint(entry.Action, " ", entry.Provider))
	p.stop()

	// Where no worker runs the entry is staged.
	w.exec(`UPDATE provwatch.audit_log SET delivered_at = now() - interval '100 days' WHERE seq = 4`)
	r = w.run(nil, "prune", "--older-than=90d", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.JSONEq(t, `{"dry_run": false, "older_than_seconds": 7776000, "alerts": 0, "alerts_up_to": 0, "audit_entries": 1, "audit_up_to": 4, "acceptances": 0, "silences": 0,
		"held_by": [], "audit": "staged"}`, r.Stdout)
	require.Equal(t, []string{"history.prune"}, w.strings(`SELECT action FROM provwatch.audit_outbox`))
}

// testRetentionCommandRefused has calls that change nothing.
func testRetentionCommandRefused(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	before := w.dump()
	for want, args := range map[string][]string{
		"--older-than is needed":                         {"prune"},
		"--older-than must be a duration of at least 1s": {"prune", "--older-than=90"},
		"--keep (or PROVWATCH_KEEP) must be forever, or": {"prune", "--keep=-1d"},
		`"worker prune" takes no arguments`:              {"prune", "90d"},
	} {
		r := w.run(environ{"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}, args...)
		require.Equal(t, 3, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, want)
	}
	// Neither an operator nor a worker that is not to prune can remove audit entries.
	for _, role := range []string{"test_operator", "test_reader", "test_notify"} {
		for _, args := range [][]string{{"--older-than=90d"}, {"--older-than=90d", "--dry-run"}} {
			r := w.run(environ{"DATABASE_URL": w.withPassword(role)}, append([]string{"prune"}, args...)...)
			require.Equal(t, 4, r.Code, r.Stderr)
			require.Contains(t, r.Stderr, "make it a member of provwatch_notify and provwatch_pruner")
			require.Contains(t, r.Stderr, `GRANT DELETE ON TABLE provwatch.audit_log`)
		}
	}
	require.Equal(t, before, w.dump())
}
