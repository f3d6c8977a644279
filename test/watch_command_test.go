//go:build e2e

package test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

var alertTime = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  `)

func TestWatch(t *testing.T) {
	t.Parallel()
	t.Run("FollowsAndCatchesUp", testWatchFollowsAndCatchesUp)
	t.Run("TerminatedConnections", testWatchTerminatedConnections)
	t.Run("BeforeAnyMigration", testWatchBeforeAnyMigration)
}

func testWatchFollowsAndCatchesUp(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	p := w.start(w.twoProviders(), "run").ready()
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`)
	w.expectAlerts("changed openai")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
	w.expectAlerts("changed openai", "disabled anthropic")

	fresh := w.start(nil, "watch")
	all := w.start(nil, "watch", "--since", "0")
	last := w.start(nil, "watch", "--since", "1", "-o", "json")
	for _, watch := range []*worker{fresh, all, last} {
		watch.waitFor("msg=listening")
	}
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'anthropic'`)
	w.expectAlerts("changed openai", "disabled anthropic", "resolved anthropic")
	eventually(t, func() bool { return len(fresh.output()) >= 1 && len(all.output()) >= 5 && len(last.output()) >= 2 }, "the alerts are printed")

	// SIGTERM ends it in order; all has been printed by then.
	for _, watch := range []*worker{fresh, all, last} {
		watch.stop()
	}
	text := func(watch *worker) []string {
		t.Helper()
		printed := strings.Join(watch.output(), "\n")
		require.Len(t, alertTime.FindAllString(printed, -1), strings.Count(printed, "Z  #"))
		return strings.Split(alertTime.ReplaceAllString(printed, ""), "\n")
	}
	require.Equal(t, []string{"#3  resolved  anthropic  (notify; reverted, ends #2)"}, text(fresh))
	require.Equal(t, []string{
		"#1  changed  openai  (notify; moved: database)",
		"    base_url  env https://api.openai.com/v1/  db https://proxy.example/v1",
		"#2  disabled  anthropic  (notify; moved: database)",
		"    enabled  env true  db false",
		"#3  resolved  anthropic  (notify; reverted, ends #2)",
	}, text(all))
	// The JSON lines are the payloads that were published.
	require.Len(t, last.output(), 2)
	for i, line := range last.output() {
		var printed, published pubsub.DriftAlert
		require.NoError(t, json.Unmarshal([]byte(line), &printed))
		require.NoError(t, json.Unmarshal([]byte(w.payloads(pubsub.DriftAlerts)[i+1]), &published))
		require.WithinDuration(t, published.DetectedAt, printed.DetectedAt, time.Microsecond)
		published.DetectedAt = printed.DetectedAt
		require.Equal(t, published, printed)
	}
	p.stop()
}

func testWatchTerminatedConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(w.twoProviders(), "run").ready()
	watch := w.start(environ{"DATABASE_URL": w.url + "&application_name=watcher"}, "watch", "-o", "json")
	watch.waitFor("msg=listening")
	var want []string
	const rounds = 3
	for i := range rounds {
		require.NotZero(t, w.count(`SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name LIKE 'watcher%'`))
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
		want = append(want, []string{"disabled", "resolved"}[i%2]+" openai")
		w.expectAlerts(want...)
		eventually(t, func() bool { return len(watch.output()) > i }, "alert %d is printed", i+1)
	}
	watch.stop()
	var seqs []int64
	for _, line := range watch.output() {
		var alert pubsub.DriftAlert
		require.NoError(t, json.Unmarshal([]byte(line), &alert))
		seqs = append(seqs, alert.Seq)
	}
	require.Equal(t, []int64{1, 2, 3}, seqs)
	require.GreaterOrEqual(t, watch.logged("listening connection lost"), rounds)
	p.stop()
}

func testWatchBeforeAnyMigration(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	require.Equal(t, result{Code: 4, Stderr: "worker: the database's schema cannot be used: provwatch's tables are not there yet; " +
		"start \"worker run\", or run \"worker migrate\"\n"}, w.run(nil, "watch"))
	w.unmigrated()
}
