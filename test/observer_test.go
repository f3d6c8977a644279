//go:build e2e

package test

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/pubsub"
)

func TestObserver(t *testing.T) {
	t.Parallel()
	t.Run("WritesNothing", testObserverWritesNothing)
	t.Run("WithTriggers", testObserverWithTriggers)
	t.Run("WithPublication", testObserverWithPublication)
	t.Run("WithNeither", testObserverWithNeither)
	t.Run("LosesThePublication", testObserverLosesThePublication)
	t.Run("AsTheOwner", testObserverAsTheOwner)
	t.Run("BesideAnOrdinaryWorker", testObserverBesideAnOrdinaryWorker)
	t.Run("Target", testObserverTarget)
}

// observing makes "worker run" connect as a member of provwatch_observer alone, and returns
// the environment of two providers for it. The source is the default.
func (w *world) observing() environ {
	w.t.Helper()
	role, attributes := "test_observer_wal", "REPLICATION "
	if w.source == "notify" {
		role, attributes = "test_observer", ""
	}
	w.createRole(role, attributes+"IN ROLE provwatch_observer")
	w.login["run"] = role
	require.Zero(w.t, w.count(`SELECT count(*) FROM pg_class c CROSS JOIN unnest('{INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER}'::text[]) AS action
		WHERE c.relname IN ('ai_providers', 'ai_provider_keys', 'dbcrypt_keys') AND c.relnamespace = 'public'::regnamespace
			AND (has_table_privilege($1, c.oid, action) OR action IN ('INSERT', 'UPDATE') AND has_any_column_privilege($1, c.oid, action))`, role))
	return w.twoProviders().With("PROVWATCH_SOURCE", "auto")
}

// theirs returns everything that an observing worker must not change: each row with its
// place, which any write changes, the triggers and the publication.
func (w *world) theirs() []string {
	w.t.Helper()
	return w.strings(`
		SELECT 'provider ' || p.ctid || ' ' || p.xmin || ' ' || p.xmax || ' ' || to_jsonb(p)::text FROM ai_providers p
		UNION ALL SELECT 'key ' || k.ctid || ' ' || k.xmin || ' ' || k.xmax || ' ' || to_jsonb(k)::text FROM ai_provider_keys k
		UNION ALL SELECT 'encryption key ' || d.ctid || ' ' || d.xmin || ' ' || to_jsonb(d)::text FROM dbcrypt_keys d
		UNION ALL SELECT 'trigger ' || t.oid || ' ' || tgname || ' ' || tgenabled::text FROM pg_trigger t WHERE NOT tgisinternal
		UNION ALL SELECT 'publication ' || p.oid || ' ' || t.tablename FROM pg_publication p JOIN pg_publication_tables t USING (pubname)
		ORDER BY 1`)
}

// written returns how many rows of the provider tables were ever inserted, updated and
// deleted, also by transactions that were rolled back.
func (w *world) written() []string {
	w.t.Helper()
	return w.strings(`SELECT relname || ': ' || n_tup_ins || ' ' || n_tup_upd || ' ' || n_tup_del FROM pg_stat_user_tables
		WHERE relname IN ('ai_providers', 'ai_provider_keys', 'dbcrypt_keys') ORDER BY relname`)
}

// change runs a statement of somebody else, in a session that has reported its statistics
// by the time that it has ended.
func (w *world) change(statement string) {
	w.t.Helper()
	require.NoError(w.t, tryExec(w.t.Context(), w.url, statement))
}

// testObserverWithTriggers lets a worker observe a database whose owner made the triggers. A
// provider is missing, another differs, and a third is soft-deleted.
func testObserverWithTriggers(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.insertProvider("openai", "openai", "https://elsewhere.example/v1/")
	w.insertProvider("openai", "gone", "https://gone.example/", "deleted = true")
	env := w.observing().With("CODER_AIBRIDGE_PROVIDER_0_TYPE", "openai").With("CODER_AIBRIDGE_PROVIDER_0_NAME", "gone").
		With("CODER_AIBRIDGE_PROVIDER_0_BASE_URL", "https://gone.example/").With("CODER_AIBRIDGE_PROVIDER_0_KEY", w.secret("sk-gone-0123456789-abcdef"))
	before := w.theirs()
	p := w.start(env, "run", "--observe", "--resync=1h", "--http-addr=127.0.0.1:0").ready()
	p.waitFor("level=WARN", "provider is missing in the database", "provider=anthropic", `remedy="worker seed, or worker resolve anthropic --take env"`)
	p.waitFor("level=WARN", "provider differs from the environment", "provider=openai")
	p.waitFor("level=WARN", "provider is soft-deleted in the database and stays so", "provider=gone")
	p.waitFor("observing: nothing is seeded", "missing=1", "drifted=1", "deleted=1")
	p.waitFor(`"alerts come from this source instead" source=notify`)
	w.expectAlerts("missing anthropic", "changed openai")
	require.Equal(t, []string{"boot", "boot"}, w.strings(`SELECT source FROM provwatch.drift_alerts`))
	require.Equal(t, before, w.theirs(), "nothing is seeded")
	require.Zero(t, w.count(`SELECT count(*) FROM provwatch.audit_outbox`)+w.count(`SELECT count(*) FROM provwatch.audit_log`))

	// Changes of others are alerted as by any worker, and audit entries of others delivered.
	w.change(`UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/' WHERE name = 'openai'`)
	w.expectAlerts("missing anthropic", "changed openai", "resolved openai")
	require.Equal(t, 0, w.run(env, "resolve", "anthropic", "--take", "env").Code)
	w.expectAlerts("missing anthropic", "changed openai", "resolved openai", "resolved anthropic")
	// Each time that the worker tries the WAL again it verifies everything, which can come first.
	require.Subset(t, []string{"notify", "resync"}, w.strings(`SELECT source FROM provwatch.drift_alerts WHERE kind = 'resolved'`))
	eventually(t, func() bool { return p.series()[`provwatch_verification_duration_seconds{scope="hinted"}`] >= 2 }, "the triggers have prompted verifications")
	require.NotEmpty(t, w.delivered(`SELECT action FROM provwatch.audit_log WHERE provider = 'anthropic'`))

	require.Equal(t, 1.0, p.metric("provwatch_observing"))
	require.Equal(t, 1.0, p.series()[`provwatch_source{source="notify"}`])
	require.Zero(t, p.series()[`provwatch_seed_providers_total{action="insert"}`])
	_, page := p.get("/")
	require.Contains(t, page, "observes: writes nothing to the provider tables, and seeds nothing")
	status := w.run(env, "status")
	require.Regexp(t, `(?m)^Leader: +observing session \d+ of role `, status.Stdout)
	require.Regexp(t, `(?m)^Listeners: +1, of them 1 observing$`, status.Stdout)
	p.waitForReadyz(http.StatusOK, "")
	p.stop()
}

// testObserverWritesNothing counts what is written to the provider tables while a worker
// observes drifts of every kind. Everything is of the test.
func testObserverWritesNothing(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.observing()
		w.change(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'openai', 'https://elsewhere.example/')`)
		p := w.start(env, "run", "--observe", "--credential-drift=alert", "--resync=1s").ready()
		w.expectAlerts("missing anthropic", "changed openai")
		w.change(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.change(`UPDATE ai_providers SET deleted = true WHERE name = 'openai'`)
		w.change(`DELETE FROM ai_providers WHERE name = 'openai'`)
		eventually(t, func() bool { return slices.Contains(w.alerts(), "missing openai") }, "the last change is alerted, have %s", lazily(w.alerts))
		p.stop()
		eventually(t, func() bool {
			return w.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'provwatch%'`) == 0
		}, "the worker's sessions have ended, and reported what they wrote")
		eventually(t, func() bool { return slices.Contains(w.written(), "ai_providers: 1 2 1") }, "the changes alone are counted, have %s", lazily(w.written))
		require.Equal(t, []string{"ai_provider_keys: 0 0 0", "ai_providers: 1 2 1", "dbcrypt_keys: 0 0 0"}, w.written())
	})
}

// testObserverWithPublication lets a worker observe a database whose owner published the
// provider tables, by the WAL.
func testObserverWithPublication(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	env := w.observing()
	before := w.theirs()
	p := w.start(env, "run", "--observe", "--http-addr=127.0.0.1:0", "--resync=1h").ready()
	p.waitFor("alerts come from this source now", "source=wal")
	w.expectAlerts("missing anthropic", "missing openai")
	w.change(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'openai', 'https://api.openai.com/v1/')`)
	w.change(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.change(`DELETE FROM ai_providers WHERE name = 'openai'`)
	w.expectAlerts("missing anthropic", "missing openai", "resolved openai", "disabled openai", "missing openai")
	require.Equal(t, []string{"wal"}, w.strings(`SELECT DISTINCT source FROM provwatch.drift_alerts WHERE seq > 2`))
	require.Equal(t, 1.0, p.series()[`provwatch_source{source="wal"}`])
	require.Equal(t, before, w.theirs())
	p.waitForReadyz(http.StatusOK, "")

	// What changes while it is away is alerted as well.
	p.stop()
	w.change(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'openai', 'https://api.openai.com/v1/')`)
	w.change(`DELETE FROM ai_providers WHERE name = 'openai'`)
	p = w.start(env, "run", "--observe").ready()
	w.expectAlerts("missing anthropic", "missing openai", "resolved openai", "disabled openai", "missing openai", "resolved openai", "missing openai")
	p.stop()
	require.Equal(t, before, w.theirs())
}

// testObserverWithNeither lets a worker observe a database without triggers and without a
// publication, which the owner then makes one after the other.
func testObserverWithNeither(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.dropTriggers()
	env := w.observing()
	p := w.start(env, "run", "--observe", "--resync=1s", "--http-addr=127.0.0.1:0").ready()
	p.waitFor("level=WARN", `"alerts come from this source instead" source=resync`, "the triggers on the provider tables are missing", "every=45s",
		`remedy="run worker migrate --source=notify as the owner of the provider tables"`)
	w.expectAlerts("missing anthropic", "missing openai")
	w.insertProvider("openai", "openai", "https://api.openai.com/v1/")
	w.expectAlerts("missing anthropic", "missing openai", "resolved openai")
	require.Equal(t, []string{"resync"}, w.strings(`SELECT source FROM provwatch.drift_alerts WHERE kind = 'resolved'`))
	require.Equal(t, 1.0, p.series()[`provwatch_source{source="resync"}`])
	require.Equal(t, 1, p.logged("level=WARN", "source=resync"))
	require.Zero(t, w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`))
	require.Zero(t, w.count(`SELECT count(*) FROM pg_publication`))
	p.waitForReadyz(http.StatusOK, "")

	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "notify"}, "migrate").Code)
	p.waitFor(`"alerts come from this source instead" source=notify`)
	w.change(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("missing anthropic", "missing openai", "resolved openai", "disabled openai")
	w.dropTriggers()
	eventually(t, func() bool { return p.logged("level=WARN", "source=resync") >= 2 }, "the worker notices that the triggers are gone")
	require.Zero(t, p.logged("the role has lost privileges"))
	p.stop()
}

// testObserverLosesThePublication drops the publication under a worker that observes.
func testObserverLosesThePublication(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	env := w.observing()
	p := w.start(env, "run", "--observe", "--resync=1s").ready()
	p.waitFor("alerts come from this source now", "source=wal")
	w.change(`DROP PUBLICATION provwatch`)
	w.insertProvider("openai", "openai", "https://api.openai.com/v1/") // the slot is looked at
	p.waitFor("level=WARN", `"alerts come from this source instead" source=resync`, "the provider tables are not published")
	eventually(t, func() bool { return len(w.alerts()) == 4 }, "the gap and what was changed, have %s", lazily(w.alerts))
	require.ElementsMatch(t, []string{"missing anthropic", "missing openai", "gap", "resolved openai"}, w.alerts())
	require.Zero(t, w.count(`SELECT count(*) FROM pg_publication`))
	p.stop()

	r := w.run(env, "run", "--observe", "--source=wal")
	require.Equal(t, 4, r.Code)
	require.Contains(t, r.Stderr, `run "worker migrate --source=wal" as their owner`)
	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "wal"}, "migrate").Code)
	p = w.start(env, "run", "--observe").ready()
	p.waitFor("alerts come from this source now", "source=wal")
	p.stop()
}

// testObserverAsTheOwner lets a superuser observe, who could change everything. The database
// could be published, a key registered, and a migration applied.
func testObserverAsTheOwner(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	key := dbcrypttest.NewKey()
	env := w.twoProviders().With("CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS", w.secret(key.Text()))
	r := w.run(env, "run", "--observe")
	require.Equal(t, 4, r.Code)
	require.Contains(t, r.Stderr, `run "worker migrate" as the owner`)
	w.unmigrated()

	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "notify"}, "migrate").Code)
	p := w.start(env, "run", "--observe", "--resync=1s", "--http-addr=127.0.0.1:0").ready()
	p.waitFor(`"alerts come from this source instead" source=notify`, "the provider tables are not published")
	w.expectAlerts("missing anthropic", "missing openai")
	w.dropTriggers()
	p.waitFor(`"alerts come from this source instead" source=resync`, "the triggers on the provider tables are missing")
	p.waitForReadyz(http.StatusOK, "")
	require.Zero(t, w.count(`SELECT count(*) FROM dbcrypt_keys`), "no key is registered")
	require.Zero(t, w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`))
	p.stop()

	// By the WAL it leaves the triggers, which it does not need.
	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "notify"}, "migrate").Code)
	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "wal"}, "migrate").Code)
	before := w.theirs()
	p = w.start(env, "run", "--observe").ready()
	p.waitFor("alerts come from this source now", "source=wal")
	w.insertProvider("openai", "openai", "https://api.openai.com/v1/")
	w.expectAlerts("missing anthropic", "missing openai", "resolved openai")
	w.exec(`DELETE FROM ai_providers`)
	w.expectAlerts("missing anthropic", "missing openai", "resolved openai", "missing openai")
	p.stop()
	require.Equal(t, before, w.theirs())

	// A publication that makes the gateway's updates fail is the owner's to drop.
	w.exec(`ALTER TABLE ai_providers REPLICA IDENTITY FULL`)
	before = w.theirs()
	p = w.start(env, "run", "--observe").ready()
	p.waitFor(`"alerts come from this source instead" source=notify`, "REPLICA IDENTITY DEFAULT")
	p.waitFor("level=ERROR", "the publication makes writing to the provider tables fail and cannot be dropped", "DROP PUBLICATION provwatch")
	p.stop()
	require.Equal(t, before, w.theirs())
}

// testObserverBesideAnOrdinaryWorker has an observing and an ordinary worker lead by turns.
func testObserverBesideAnOrdinaryWorker(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		ordinary := w.login["run"]
		env := w.observing()
		observer := w.login["run"]
		start := func(role string, args ...string) *worker {
			w.login["run"] = role
			return w.start(env, append([]string{"run", "--resync=1h", "--takeover-after=6s", "--http-addr=127.0.0.1:0"}, args...)...).ready()
		}
		o := start(observer, "--observe")
		w.expectAlerts("missing anthropic", "missing openai")
		// The ordinary one seeds, and stands by.
		p := start(ordinary)
		want := []string{"missing anthropic", "missing openai"}
		eventually(t, func() bool { return len(w.alerts()) == 4 }, "the seed is alerted, have %s", lazily(w.alerts))
		require.ElementsMatch(t, []string{"resolved anthropic", "resolved openai"}, w.alerts()[2:])
		require.Len(t, w.published(pubsub.Seeds), 2)
		require.Equal(t, []float64{1, 0}, []float64{o.metric("provwatch_leader"), p.metric("provwatch_leader")})
		require.Zero(t, p.metric("provwatch_observing"))
		want = w.alerts()
		status := w.run(env, "status")
		require.Regexp(t, `(?m)^Leader: +observing session `, status.Stdout)
		require.Regexp(t, `(?m)^Listeners: +2, of them 1 observing$`, status.Stdout)

		alerted := func(enabled bool) {
			t.Helper()
			w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, enabled)
			want = append(want, map[bool]string{false: "disabled openai", true: "resolved openai"}[enabled])
			w.expectAlerts(want...)
		}
		alerted(false)
		o.kill9()
		alerted(true)
		require.Equal(t, 1.0, p.metric("provwatch_leader"))
		o = start(observer, "--observe")
		alerted(false)
		require.Zero(t, o.metric("provwatch_leader"))
		p.stop()
		alerted(true)
		require.Equal(t, 1.0, o.metric("provwatch_leader"))
		o.stop()
	})
}

// testObserverTarget observes one target of two.
func testObserverTarget(t *testing.T) {
	t.Parallel()
	observed, seeded := newWorldOf(t, "notify"), newWorldOf(t, "notify")
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "one.env"), "CODER_AIBRIDGE_OPENAI_KEY="+observed.secret(openAIKey)+"\n")
	observed.observing()
	file := writeFile(t, filepath.Join(dir, "provwatch.yaml"), `
targets:
  - {name: observed, env_file: one.env, database_url_env: OBSERVED_URL, observe: true}
  - {name: seeded, env_file: one.env, database_url_env: SEEDED_URL, migrate: check}
`)
	env := environ{
		"DATABASE_URL": "", "PROVWATCH_CONFIG": file, "PROVWATCH_SOURCE": "notify",
		"OBSERVED_URL": observed.withPassword(observed.login["run"]), "SEEDED_URL": seeded.withPassword(seeded.login["run"]),
	}
	p := observed.start(env, "run", "--http-addr=127.0.0.1:0")
	observed.expectAlerts("missing openai")
	p.waitFor("msg=ready", "target=seeded")
	require.Equal(t, 1, seeded.count(`SELECT count(*) FROM ai_providers WHERE name = 'openai'`))
	require.Zero(t, observed.count(`SELECT count(*) FROM ai_providers WHERE name = 'openai'`))
	require.Equal(t, 1.0, p.series()[`provwatch_observing{target="observed"}`])
	require.Zero(t, p.series()[`provwatch_observing{target="seeded"}`])
	_, page := p.get("/")
	require.Equal(t, 1, strings.Count(page, ", observes"))
	p.stop()

	writeFile(t, file, strings.Replace(read(t, file), "observe: true", "observe: true, migrate: auto, on_boot_drift: fail, announce_seed: true", 1))
	r := observed.run(env, "run")
	require.Equal(t, 3, r.Code)
	for _, want := range []string{
		"observe: true does not migrate: use migrate: check or migrate: off", "observe: true always alerts the drifts of the start: use on_boot_drift: alert",
		"observe: true seeds nothing that announce_seed: true could announce",
	} {
		require.Contains(t, r.Stderr, want)
	}
}
