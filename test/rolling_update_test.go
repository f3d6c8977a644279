//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
)

const (
	formerURL = "https://api.openai.com/v1/"
	newerURL  = "https://new.example/v1/"
)

// rolling are the arguments of a worker of a rolling update. A rollback counts after a time.
func rolling(rollbackAfter string, more ...string) []string {
	return append([]string{"run", "--takeover-after=15s", "--http-addr=127.0.0.1:0", "--rollback-after=" + rollbackAfter}, more...)
}

// rollingUpdate is a database during a rolling update: the base URL of openai changes.
type rollingUpdate struct {
	*world
	former, newer environ
}

func newRollingUpdate(w *world) *rollingUpdate {
	w.mayApply()
	former := w.twoProviders()
	return &rollingUpdate{world: w, former: former, newer: former.With("CODER_AIBRIDGE_OPENAI_BASE_URL", newerURL)}
}

// apply writes the newer environment to the row, as an apply of a worker does: in the transaction
// that records its generation.
func (u *rollingUpdate) apply(conn *pgx.Conn) error {
	desired := []provider.Desired{
		{Name: "openai", Type: provider.OpenAI, BaseURL: newerURL}, {Name: "anthropic", Type: provider.Anthropic, BaseURL: "https://api.anthropic.com/"},
	}
	return pgx.BeginFunc(u.t.Context(), conn, func(tx pgx.Tx) error {
		hasher, err := store.On(tx).Hasher(u.t.Context())
		if err != nil {
			return err
		}
		if _, err := rollout.NewMember(uuid.New(), rollout.Window, rollout.Seeds).Take(u.t.Context(), tx, hasher, desired); err != nil {
			return err
		}
		_, err = tx.Exec(u.t.Context(), `UPDATE ai_providers SET base_url = $1, updated_at = now() WHERE name = 'openai'`, newerURL)
		return err
	})
}

// requireApplied requires the rows that the apply has left, and that no provider was alerted.
func (u *rollingUpdate) requireApplied() {
	u.t.Helper()
	require.Equal(u.t, []string{"anthropic https://api.anthropic.com/", "openai " + newerURL},
		u.strings(`SELECT name || ' ' || base_url FROM ai_providers WHERE name IN ('anthropic', 'openai') ORDER BY name`))
	require.Empty(u.t, u.alerts())
	require.Empty(u.t, u.payloads(pubsub.DriftAlerts))
}

// row returns the row that was applied, with its place, which any write changes.
func (u *rollingUpdate) row() []string {
	u.t.Helper()
	return u.strings(`SELECT ctid || ' ' || xmin || ' ' || to_jsonb(p)::text FROM ai_providers p WHERE name = 'openai'`)
}

// waitForAgreement waits until the leader has recorded that row and newer environment agree.
func (u *rollingUpdate) waitForAgreement() {
	u.t.Helper()
	eventually(u.t, func() bool {
		return u.count(`SELECT count(*) FROM provwatch.base_pairs WHERE provider = 'openai' AND env_base_url = $1`, newerURL) == 1
	}, "the leader has recorded the agreement")
}

// generations returns the digests and generations of all environments.
func (u *rollingUpdate) generations() []string {
	u.t.Helper()
	return u.strings(`SELECT generation || ' ' || digest FROM provwatch.environments ORDER BY generation`)
}

func TestRollingUpdate(t *testing.T) {
	t.Parallel()
	t.Run("SideBySide", testRollingUpdateSideBySide)
	t.Run("Rollback", testRollingUpdateRollback)
	t.Run("ServerRestart", testRollingUpdateServerRestart)
	t.Run("InvisibleCommit", testRollingUpdateInvisibleCommit)
	t.Run("Observer", testRollingUpdateObserver)
	t.Run("SeedCommand", testRollingUpdateSeedCommand)
	t.Run("Reload", testRollingUpdateReload)
	t.Run("ApplyCommand", testRollingUpdateApplyCommand)
}

// testRollingUpdateSideBySide has workers of both environments. Former ones are restarted, and
// newer ones killed, in between.
func testRollingUpdateSideBySide(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		u := newRollingUpdate(w)
		former := w.start(u.former, rolling("10m")...).ready()
		second := w.start(u.former, rolling("10m")...).ready()
		w.waitForQueue(1)
		newer := w.start(u.newer, rolling("10m", "--on-boot-drift=apply")...).ready()
		newer.waitFor("provider updated from the environment", "provider=openai")
		former.waitFor("stepping down for a worker with a newer environment")
		newer.waitFor("msg=leading")
		for _, p := range []*worker{former, second} {
			p.waitForReadyz(http.StatusOK, `(?s)^ok\nenvironment: older than that of worker \S+ of role "?\S+"?, which is newer since \S+ and was last seen at \S+: this worker seeds, alerts and applies nothing`)
			require.Equal(t, 1.0, p.metric("provwatch_environment_older"))
			eventually(t, func() bool { return p.metric("provwatch_leader") == 0 }, "it leads no more")
		}
		require.Zero(t, newer.metric("provwatch_environment_older"))
		w.waitForQueue(0)
		u.requireApplied()
		generations, row := u.generations(), u.row()

		// The former worker is restarted: its environment would be written to the row.
		former.stop()
		former = w.start(u.former, rolling("10m", "--on-boot-drift=apply")...).ready()
		former.waitFor("level=WARN", "nothing is seeded: the environment is older than that of another worker", "newer_worker=")
		former.waitFor("the environment is older than that of another worker: this worker seeds, alerts and applies nothing")
		require.Zero(t, former.logged("msg=leading"))

		// The newer one is replaced by one of its own, and by no former one.
		next := w.start(u.newer, rolling("10m")...).ready()
		w.waitForQueue(1)
		newer.kill9()
		next.waitFor("msg=leading")
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
		w.expectAlerts("disabled anthropic")
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'anthropic'`)
		w.expectAlerts("disabled anthropic", "resolved anthropic")
		require.Zero(t, former.logged("msg=drift"), strings.Join(former.lines(), "\n"))
		require.Equal(t, generations, u.generations())

		// Without a newer worker no former one leads, and /readyz shows why.
		next.kill9()
		former.waitForReadyz(http.StatusServiceUnavailable, `no worker has led for \S+; this environment is older than that of worker \S+ of role "\S+".*; this worker may lead from \S+ on`)
		w.exec(`NOTIFY ai_providers_changed`)
		last := w.start(u.newer, rolling("10m")...).ready()
		last.waitFor("msg=leading")
		former.waitForReadyz(http.StatusOK, "older than that of worker")
		require.Zero(t, former.logged("msg=leading"))
		require.Zero(t, second.logged("msg=leading"))
		require.Equal(t, []string{"disabled anthropic", "resolved anthropic"}, w.alerts())
		require.Equal(t, row, u.row(), "nothing is written back")
		require.Equal(t, generations, u.generations())
		require.Equal(t, []string{"openai"}, w.delivered(`SELECT provider FROM provwatch.audit_log WHERE action = 'provider.update'`), "one write")

		// "worker status" and the page show who is older.
		r := w.run(nil, "status", "--rollback-after=10m")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Regexp(t, `Older: +2 workers have an older environment than worker \S+ of role \S+, which is newer since `, r.Stdout)
		_, page := former.get("/")
		require.Contains(t, page, "older than that of worker")
		require.Regexp(t, `\b2 workers have an older environment than worker`, page)

		for _, p := range []*worker{former, second, last} {
			p.stop()
		}
		require.Equal(t, []string{"disabled anthropic", "resolved anthropic"}, w.alerts())
	})
}

// testRollingUpdateRollback ends the newer workers. After --rollback-after the former environment
// is compared as any other: the row has the newer one's value.
func testRollingUpdateRollback(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		u := newRollingUpdate(w)
		former := w.start(u.former, rolling("20s")...).ready()
		newer := w.start(u.newer, rolling("20s", "--on-boot-drift=apply")...).ready()
		newer.waitFor("msg=leading")
		u.waitForAgreement()
		restarted := w.start(u.former, rolling("20s")...).ready()
		restarted.waitFor("nothing is seeded")
		u.requireApplied()
		newer.stop()
		w.expectAlerts("changed openai")
		require.Equal(t, []string{"environment"}, w.strings(`SELECT moved FROM provwatch.drift_alerts`))
		require.Len(t, u.generations(), 2)
		require.GreaterOrEqual(t, former.logged("msg=leading")+restarted.logged("msg=leading"), 2, "the former one at first, and one of both now")
		for _, p := range []*worker{former, restarted} {
			p.waitFor("the environment is no longer older than another one")
			p.waitForReadyz(http.StatusOK, `^ok\n*$`)
		}

		// The newer one is the older one now, while the former ones are there.
		again := w.start(u.newer, rolling("20s")...).ready()
		again.waitFor("nothing is seeded")
		former.stop()
		restarted.stop()
		again.waitFor("msg=leading")
		w.expectAlerts("changed openai", "resolved openai")
		again.stop()
		require.Equal(t, []string{newerURL}, w.strings(`SELECT base_url FROM ai_providers WHERE name = 'openai'`))
	})
}

// testRollingUpdateServerRestart ends the server for longer than --rollback-after: what neither
// worker could show is no absence.
func testRollingUpdateServerRestart(t *testing.T) {
	t.Parallel()
	bothSourcesOf(t, func(t *testing.T, source string) *world {
		return newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), source)
	}, func(t *testing.T, w *world) {
		u := newRollingUpdate(w)
		former := w.start(u.former, rolling("2m")...).ready()
		require.NoError(t, u.apply(w.connect()))
		newer := w.start(u.newer, rolling("2m")...).ready()
		newer.waitFor("msg=leading")
		former.waitForReadyz(http.StatusOK, "older than that of worker")
		w.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS false`)
		w.endSessions()
		// As if it had taken five minutes.
		w.exec(`UPDATE provwatch.workers SET seen_at = seen_at - interval '5 minutes'`)
		w.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS true`)
		newer.waitForReadyz(http.StatusOK, `^ok\n*$`)
		former.waitForReadyz(http.StatusOK, "older than that of worker")
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
		w.expectAlerts("disabled anthropic")
		require.Zero(t, former.logged("no longer older"))
		newer.stop()
		former.stop()
	})
}

// testRollingUpdateInvisibleCommit has the WAL show an apply before queries see it, as while it
// waits for a synchronous standby.
func testRollingUpdateInvisibleCommit(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "wal")
	w.exec("ALTER DATABASE " + pgx.Identifier{w.db.Config().Database}.Sanitize() + " SET synchronous_commit = local")
	w.exec("SET synchronous_commit = local")
	u := newRollingUpdate(w)
	former := w.start(u.former, rolling("10m")...).ready()
	conn := w.connect()
	_, err := conn.Exec(t.Context(), "SET synchronous_commit = on")
	require.NoError(t, err)
	release := w.holdCommits()
	applied := make(chan error, 1)
	go func() { applied <- u.apply(conn) }()
	eventually(t, func() bool { return w.awaitsStandby(conn) }, "the commit waits for the standby")
	eventually(t, func() bool { return w.statements("pg_xact_status") >= 5 }, "the worker waits until it sees the commit")
	require.Empty(t, w.alerts())
	require.Zero(t, former.logged("replication stream ended"))
	release()
	require.NoError(t, <-applied)
	former.waitFor("stepping down for a worker with a newer environment")
	newer := w.start(u.newer, rolling("10m")...).ready()
	newer.waitFor("msg=leading")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
	w.expectAlerts("disabled anthropic")
	newer.stop()
	former.stop()
}

// testRollingUpdateObserver has an observer with the former environment lead.
func testRollingUpdateObserver(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		u := newRollingUpdate(w)
		require.Equal(t, 0, w.run(u.former, "seed").Code)
		worker := w.login["run"]
		w.observing()
		observes := w.login["run"]
		observer := w.start(u.former, rolling("10m", "--observe")...).ready()
		observer.waitFor("msg=leading")
		require.Equal(t, 1, w.count(`SELECT count(*) FROM provwatch.workers`), "of the seed alone")
		w.login["run"] = worker
		require.NoError(t, u.apply(w.connect()))
		newer := w.start(u.newer, rolling("10m")...).ready()
		newer.waitFor("msg=leading")
		observer.waitForReadyz(http.StatusOK, "older than that of worker")
		u.requireApplied()

		// An observer with an environment of its own holds no worker back.
		w.login["run"] = observes
		other := w.start(u.newer.With("CODER_AIBRIDGE_ANTHROPIC_BASE_URL", "https://other.example/"), rolling("10m", "--observe")...).ready()
		require.Len(t, u.generations(), 2)
		require.Zero(t, newer.metric("provwatch_environment_older"))
		require.Zero(t, other.metric("provwatch_environment_older"))
		other.stop()
		observer.stop()
		newer.stop()
		u.requireApplied()
	})
}

// testRollingUpdateSeedCommand seeds from the former environment beside a newer worker.
func testRollingUpdateSeedCommand(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	u := newRollingUpdate(w)
	require.Equal(t, 0, w.run(u.former, "seed").Code)
	require.NoError(t, u.apply(w.connect()))
	newer := w.start(u.newer, rolling("10m")...).ready()
	rows := w.theirs()
	r := w.run(u.former, "seed", "--rollback-after=10m")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Regexp(t, `^Nothing was seeded: worker \S+ of role \S+ has a newer environment since \S+, and was last seen at \S+\.\nA seed after \S+ writes what is missing, unless such a worker is seen again\.\n$`, r.Stdout)
	r = w.run(u.former, "seed", "--rollback-after=10m", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	var printed struct {
		Applied bool `json:"applied"`
		Older   struct {
			Worker string    `json:"newer_worker"`
			Until  time.Time `json:"until"`
		} `json:"older_environment"`
		Steps []struct{ Provider, Action string } `json:"steps"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.Stdout), &printed))
	require.False(t, printed.Applied)
	require.NotEmpty(t, printed.Older.Worker)
	require.False(t, printed.Older.Until.IsZero())
	require.Equal(t, "[{anthropic unchanged} {openai drift}]", fmt.Sprint(printed.Steps))
	require.Equal(t, rows, w.theirs())

	// An operator is never held back.
	require.Equal(t, 0, w.run(u.former, "resolve", "openai", "--take", "env").Code)
	w.expectAlerts("changed openai")
	require.Len(t, u.generations(), 2)
	newer.stop()
}

// testRollingUpdateReload has workers that read the newer environment from their file, one after
// the other.
func testRollingUpdateReload(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		u := newRollingUpdate(w)
		paths := []string{w.file("first.env", u.former.File()), w.file("second.env", u.former.File())}
		applies := func(path string) []string { return rolling("10m", "--env-file="+path, "--on-reload-drift=apply") }
		leader := w.start(nil, applies(paths[0])...).ready()
		standby := w.start(nil, applies(paths[1])...).ready()
		w.waitForQueue(1)
		// The standby reads it first, and writes it: the leader takes that for no drift.
		w.rewrite(paths[1], u.newer.File())
		standby.waitFor("provider updated from the environment", "provider=openai")
		standby.waitFor("msg=leading")
		leader.waitForReadyz(http.StatusOK, "older than that of worker")
		w.rewrite(paths[0], u.newer.File())
		leader.waitForReadyz(http.StatusOK, `^ok\n*$`)
		w.waitForQueue(1)
		u.requireApplied()
		standby.stop()
		leader.waitFor("msg=leading")
		leader.stop()
		u.requireApplied()
		require.Equal(t, []string{"openai"}, w.strings(`SELECT provider FROM provwatch.audit_log WHERE action = 'provider.update'`), "one write")
	})
}

// testRollingUpdateApplyCommand applies an environment that no worker has yet. Until one has it,
// none leads.
func testRollingUpdateApplyCommand(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		u := newRollingUpdate(w)
		former := w.start(u.former, rolling("10m", "--on-boot-drift=apply")...).ready()
		r := w.run(u.newer, "plan")
		require.Equal(t, 2, r.Code, r.Stderr)
		require.Len(t, u.generations(), 1, "a plan records nothing")
		r = w.run(u.newer, "apply", "openai")
		require.Equal(t, 0, r.Code, r.Stderr)
		former.waitForReadyz(http.StatusServiceUnavailable, "no worker has led for .*; this environment is older than")
		// It leads no more, and delivers what operators stage.
		r = w.run(nil, "silence", "anthropic", "--for=1h", "--reason=maintenance")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.NotContains(t, r.Stdout, "staged")
		require.Equal(t, []string{"silence.create"}, w.delivered(`SELECT action FROM provwatch.audit_log WHERE action LIKE 'silence.%'`))
		newer := w.start(u.newer, rolling("10m", "--on-boot-drift=apply")...).ready()
		newer.waitFor("msg=leading")
		former.waitForReadyz(http.StatusOK, "older than that of worker")
		u.requireApplied()

		// Commands with the former environment warn of the newer worker, also in a shell of no worker.
		warned := func(r result) {
			t.Helper()
			require.Regexp(t, `level=WARN msg="the environment is older than that of another worker: a difference can be what the newer one has changed" newer_worker=\S+ newer_role=`, r.Stderr)
		}
		generations := u.generations()
		for args, code := range map[string]int{"verify": 2, "plan": 2, "resolve openai --take env --dry-run": 0} {
			r = w.run(u.former, strings.Fields(args)...)
			require.Equal(t, code, r.Code, r.Stderr)
			warned(r)
			require.NotContains(t, w.run(u.newer, strings.Fields(args)...).Stderr, "older", args)
		}
		require.Equal(t, generations, u.generations(), "they record nothing")

		// An apply is never held back.
		r = w.run(u.former, "apply")
		require.Equal(t, 0, r.Code, r.Stderr)
		warned(r)
		former.waitFor("msg=leading")
		newer.waitForReadyz(http.StatusOK, "older than that of worker")
		require.Equal(t, []string{formerURL}, w.strings(`SELECT base_url FROM ai_providers WHERE name = 'openai'`))
		require.Empty(t, w.alerts())
		newer.stop()
		former.stop()
	})
}
