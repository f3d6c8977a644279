//go:build e2e

package test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
)

// printed returns the alerts that a watch has printed as JSON, as [world.alerts] has them.
func (p *worker) printed() []string {
	p.w.t.Helper()
	var list []string
	for _, line := range p.output() {
		var alert pubsub.DriftAlert
		require.NoError(p.w.t, json.Unmarshal([]byte(line), &alert))
		list = append(list, strings.TrimSpace(string(alert.Kind)+" "+alert.Provider))
	}
	return list
}

// recipe is a program that reads alerts by the SQL of the README.
type recipe struct {
	w     *world
	query string
	epoch *uuid.UUID // nil before the first alert
	seq   int64
	got   []string
}

func (w *world) recipe() *recipe {
	w.t.Helper()
	readme, err := os.ReadFile("../README.md")
	require.NoError(w.t, err)
	block := regexp.MustCompile("(?s)```sql\n(SELECT seq, id, kind.*?)```").FindSubmatch(readme)
	require.NotNil(w.t, block)
	return &recipe{w: w, query: string(block[1])}
}

// read handles what the query returns.
func (r *recipe) read() {
	r.w.t.Helper()
	rows, err := r.w.db.Query(r.w.t.Context(), r.query, r.epoch, r.seq)
	require.NoError(r.w.t, err)
	alerts, err := pgx.CollectRows(rows, pgx.RowToMap)
	require.NoError(r.w.t, err)
	for _, a := range alerts {
		for _, column := range []string{"moved", "how", "resolves", "renamed_to", "silenced", "repeats"} {
			require.Contains(r.w.t, a, column, "a payload has it")
		}
		epoch := uuid.UUID(a["epoch"].([16]byte))
		r.seq, r.epoch = a["seq"].(int64), &epoch
		r.got = append(r.got, strings.TrimSpace(a["kind"].(string)+" "+a["provider"].(string)))
	}
}

func TestRewindReaders(t *testing.T) {
	t.Parallel()
	t.Run("Recipe", testRewindReadersRecipe)
	t.Run("WatchGoesBack", testRewindReadersWatchGoesBack)
}

// testRewindReadersRecipe reads the alerts over a restore of the server's files, by the SQL of
// the README and by "worker watch".
func testRewindReadersRecipe(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	w := newWorldOn(t, cluster.NewDatabase(t), "notify")
	watch := w.start(nil, "watch", "--since", "0", "-o", "json")
	r, late := w.recipe(), w.recipe()
	p := w.start(w.twoProviders(), "run").ready()
	flip := func(enabled bool, seq int) {
		t.Helper()
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, enabled)
		eventually(t, func() bool { return w.count(`SELECT last_seq FROM provwatch.alert_counter`) == seq }, "alert %d", seq)
	}
	want := []string{}
	expect := func(more ...string) {
		t.Helper()
		want = append(want, more...)
		r.read()
		require.Equal(t, want, r.got)
		eventually(t, func() bool { return len(watch.printed()) >= len(want) }, "%q is printed, have %s", want, lazily(watch.printed))
		require.Equal(t, want, watch.printed())
	}
	flip(false, 1)
	flip(true, 2)
	late.read()
	cluster.Stop(t, "fast")
	putBack := cluster.Save(t)
	cluster.StartAgain(t)
	w.db = w.connect()
	flip(false, 3)
	expect("disabled openai", "resolved openai", "disabled openai")
	flip(true, 4)
	flip(false, 5)
	expect("resolved openai", "disabled openai")
	cluster.Stop(t, "fast")
	putBack()
	cluster.StartAgain(t)
	w.db = w.connect()
	late.w.db = w.db
	eventually(t, func() bool { return len(w.rewinds()) == 1 }, "the rewind is recorded")
	flip(false, 4)
	expect("rewound", "disabled openai")
	flip(true, 5)
	flip(false, 6)
	expect("resolved openai", "disabled openai")
	require.Equal(t, 1, watch.logged("level=WARN", "sequence of alerts rewound", "read_up_to=5", "still_there=2"))
	// Who has read less than what was lost gets neither more nor less.
	late.read()
	require.Equal(t, []string{"disabled openai", "resolved openai", "rewound", "disabled openai", "resolved openai", "disabled openai"}, late.got)
	late.read()
	require.Len(t, late.got, 6)
	// One that is new gets what is there.
	fresh := w.recipe()
	fresh.read()
	require.Equal(t, late.got, fresh.got)
	// So does one whose epoch is no longer there, as after a restore to before it.
	before, gone := w.recipe(), uuid.New()
	before.epoch, before.seq = &gone, 99
	before.read()
	require.Equal(t, late.got, before.got)
	p.stop()
	watch.stop()
	w.searchForSecrets()
}

// testRewindReadersWatchGoesBack puts the server's files back while no worker runs: the next one cannot
// tell, and records other alerts under the same numbers, in the same epoch.
func testRewindReadersWatchGoesBack(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	w := newWorldOn(t, cluster.NewDatabase(t), "notify")
	env := w.twoProviders()
	watch := w.start(nil, "watch", "--since", "0", "-o", "json")
	change := func(statement string, alerts int) {
		t.Helper()
		w.exec(statement)
		eventually(t, func() bool { return len(w.alerts()) == alerts }, "%d alerts", alerts)
	}
	p := w.start(env, "run").ready()
	change(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, 1)
	cluster.Stop(t, "fast")
	putBack := cluster.Save(t)
	cluster.StartAgain(t)
	w.db = w.connect()
	change(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`, 2)
	change(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, 3)
	// What was deleted is no reason to go back.
	eventually(t, func() bool { return len(watch.printed()) == 3 }, "three are printed, have %s", lazily(watch.printed))
	change(`DELETE FROM provwatch.drift_alerts WHERE seq = 3`, 2)
	change(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`, 3)
	want := []string{"disabled openai", "resolved openai", "disabled openai", "resolved openai"}
	eventually(t, func() bool { return len(watch.printed()) == len(want) }, "all is printed, have %s", lazily(watch.printed))
	require.Equal(t, want, watch.printed())
	require.Zero(t, watch.logged("rewound"))
	p.stop()
	cluster.Stop(t, "fast")
	putBack()
	cluster.StartAgain(t)
	w.db = w.connect()
	p = w.start(env, "run", "--on-boot-drift=alert").ready()
	require.Empty(t, w.rewinds(), "nothing in the database tells")
	for i, change := range []string{"enabled = false WHERE name = 'anthropic'", "deleted = true WHERE name = 'anthropic'", "enabled = true WHERE name = 'openai'", "enabled = false WHERE name = 'openai'"} {
		w.exec(`UPDATE ai_providers SET ` + change)
		eventually(t, func() bool { return len(w.alerts()) == i+2 }, "alert %d", i+2)
	}
	want = append(want, "disabled anthropic", "deleted anthropic", "resolved openai", "disabled openai")
	eventually(t, func() bool { return len(watch.printed()) == len(want) }, "all is printed, have %s", lazily(watch.printed))
	require.Equal(t, want, watch.printed())
	require.Equal(t, 1, watch.logged("level=WARN", "sequence of alerts rewound"))
	watch.stop()

	// One that begins with a seq that is not there says so.
	watch = w.start(nil, "watch", "--since", "17", "-o", "json")
	watch.waitFor("level=WARN", "there is no alert of that seq", "since=17", "last_seq=5")
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	eventually(t, func() bool { return len(watch.printed()) == 1 }, "it goes on")
	require.Equal(t, 3, w.run(environ{"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}, "watch", "--since", "-1").Code)
	p.stop()
	w.searchForSecrets()
}
