//go:build e2e

package test

import (
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGatewayUpgrade(t *testing.T) {
	t.Parallel()
	t.Run("IsNotBlocked", testGatewayUpgradeIsNotBlocked)
	t.Run("ChangedColumnTypes", testGatewayUpgradeChangedColumnTypes)
	t.Run("RebuiltTables", testGatewayUpgradeRebuiltTables)
	t.Run("RebuiltUnderAnotherRole", testGatewayUpgradeRebuiltUnderAnotherRole)
	t.Run("MissingTriggers", testGatewayUpgradeMissingTriggers)
	t.Run("SessionsWithoutTriggers", testGatewayUpgradeSessionsWithoutTriggers)
	t.Run("TriggersNotOfEverySession", testGatewayUpgradeTriggersNotOfEverySession)
}

// testGatewayUpgradeIsNotBlocked runs what migrations of the gateway do to its
// tables, while a worker runs and after it has stopped.
func testGatewayUpgradeIsNotBlocked(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		w.exec(`ALTER TABLE ai_providers ADD COLUMN spare text`)
		p := w.start(w.twoProviders(), "run").ready()
		upgrade := func() {
			t.Helper()
			for _, statements := range []string{
				`ALTER TYPE ai_provider_type RENAME TO t_old;
				CREATE TYPE ai_provider_type AS ENUM ('openai', 'anthropic', 'azure', 'bedrock', 'google', 'openai-compat', 'openrouter', 'vercel', 'copilot');
				ALTER TABLE ai_providers ALTER COLUMN type TYPE ai_provider_type USING type::text::ai_provider_type;
				DROP TYPE t_old`,
				`ALTER TABLE ai_providers ALTER COLUMN base_url TYPE varchar(2000)`,
				`ALTER TABLE ai_providers ALTER COLUMN base_url TYPE text`,
				`ALTER TABLE ai_providers ALTER COLUMN updated_at TYPE timestamptz(3)`,
				`ALTER TABLE ai_providers DROP COLUMN spare`,
				`ALTER TABLE ai_providers ADD COLUMN spare text NOT NULL DEFAULT ''`,
				`ALTER TABLE ai_provider_keys ALTER COLUMN api_key TYPE varchar`,
				`ALTER TABLE ai_provider_keys DROP COLUMN created_at`,
				`ALTER TABLE ai_provider_keys ADD COLUMN created_at timestamptz NOT NULL DEFAULT now()`,
			} {
				w.exec("BEGIN")
				w.exec(statements)
				w.exec("COMMIT")
			}
		}
		upgrade()
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		p.stop()
		upgrade()
		p = w.start(w.twoProviders(), "run", "--on-boot-drift=alert").ready()
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("disabled openai", "resolved openai")
		p.stop()
	})
}

// testGatewayUpgradeChangedColumnTypes makes the enum of the provider table anew, so
// that statements which the worker has prepared would fail. With the WAL, the table is read
// for a new slot, too.
func testGatewayUpgradeChangedColumnTypes(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		p := w.start(w.twoProviders(), "run", "--resync=24h", "--http-addr=127.0.0.1:0").ready()
		look := func() {
			t.Helper()
			ended := p.metric(`provwatch_verification_duration_seconds_count`)
			w.exec(`SELECT pg_notify('ai_providers_changed', id::text) FROM ai_providers WHERE name = 'openai'`)
			eventually(t, func() bool { return p.metric(`provwatch_verification_duration_seconds_count`) > ended }, "a verification ends")
		}
		for range 2 {
			look()
			w.exec(`BEGIN`)
			w.exec(`ALTER TYPE ai_provider_type RENAME TO former;
				CREATE TYPE ai_provider_type AS ENUM ('openai', 'anthropic', 'azure', 'bedrock', 'google', 'openai-compat', 'openrouter', 'vercel', 'copilot');
				ALTER TABLE ai_providers ALTER COLUMN type TYPE ai_provider_type USING type::text::ai_provider_type;
				DROP TYPE former`)
			w.exec(`COMMIT`)
			look()
		}
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		want := []string{"disabled openai"}
		w.expectAlerts(want...)
		require.Zero(t, p.logged("not ready"))
		if w.source == "wal" {
			name, _, _ := w.slot()
			eventually(t, func() bool {
				return tryExec(t.Context(), w.url, fmt.Sprintf(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '%s' AND active; SELECT pg_drop_replication_slot('%s')`, name, name)) == nil
			}, "the slot is dropped")
			w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
			w.expectAlerts("disabled openai", "gap", "resolved openai")
		}
		require.Zero(t, p.logged("cached plan"))
		p.stop()
	})
}

// testGatewayUpgradeRebuiltTables drops the tables and makes them again in
// one transaction, as a migration that rebuilds them does. The worker's role owns them:
// another one has no privileges on the new tables. The next resync is far away.
func testGatewayUpgradeRebuiltTables(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders().With("DATABASE_URL", w.url)
		p := w.start(env, "run", "--resync=24h").ready()
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		rebuild := w.rebuildProviderTables
		rebuild()
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		want := []string{"disabled openai", "resolved openai"}
		if w.source == "wal" {
			want = []string{"disabled openai", "gap", "resolved openai"}
		}
		w.expectAlerts(want...)
		for i := range 2 {
			w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'anthropic'`, i == 1)
			want = append(want, []string{"disabled anthropic", "resolved anthropic"}[i])
			w.expectAlerts(want...)
		}
		require.Equal(t, 2, w.count(`SELECT count(*) FROM ai_provider_keys k JOIN ai_providers p ON p.id = k.provider_id WHERE p.name NOT LIKE 'gw-%'`))
		p.stop()
		if w.source != "wal" {
			return
		}

		// While no worker runs what is changed back is seen by nobody, which is said.
		rebuild()
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name IN ('anthropic', 'openai')`)
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name IN ('anthropic', 'openai')`)
		p = w.start(env, "run", "--resync=24h").ready()
		eventually(t, func() bool {
			return w.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE kind = 'gap' AND reason LIKE '%the publication had to be created again%'`) == 1
		}, "the gap is announced")
		p.stop()
	})
}

// rebuildProviderTables drops the tables and makes them again in one transaction.
func (w *world) rebuildProviderTables() {
	w.t.Helper()
	w.exec(`BEGIN`)
	w.exec(`CREATE TABLE public.new_providers (LIKE ai_providers INCLUDING ALL);
		INSERT INTO new_providers SELECT * FROM ai_providers;
		CREATE TABLE public.new_keys (LIKE ai_provider_keys INCLUDING ALL, FOREIGN KEY (provider_id) REFERENCES new_providers ON DELETE CASCADE);
		INSERT INTO new_keys SELECT * FROM ai_provider_keys;
		DROP TABLE ai_provider_keys, ai_providers;
		ALTER TABLE new_providers RENAME TO ai_providers;
		ALTER TABLE new_keys RENAME TO ai_provider_keys`)
	w.exec(`COMMIT`)
}

// testGatewayUpgradeRebuiltUnderAnotherRole rebuilds the tables where the worker's role
// cannot make the triggers again: it says what it lacks, and then looks by itself. The
// next resync is far away.
func testGatewayUpgradeRebuiltUnderAnotherRole(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	p := w.start(w.twoProviders(), "run", "--resync=24h", "--http-addr=127.0.0.1:0").ready()
	w.rebuildProviderTables()
	p.becomes(http.StatusServiceUnavailable, "permission denied for table ai_providers", `"worker roles"`)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)

	script, err := os.ReadFile("../sql/roles.sql")
	require.NoError(t, err)
	conn := w.connect()
	_, err = conn.Exec(t.Context(), string(script))
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	p.becomes(http.StatusOK)
	w.expectAlerts("disabled openai")
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	require.Zero(t, w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`), "the triggers are still missing")
	p.stop()
}

// testGatewayUpgradeMissingTriggers has a worker that does not migrate. Its next resync
// is far away.
func testGatewayUpgradeMissingTriggers(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.dropTriggers()
	p := w.start(w.twoProviders(), "run", "--migrate=off", "--resync=24h", "--http-addr=127.0.0.1:0").ready()
	p.waitFor("level=WARN", "triggers on the provider tables are missing")
	p.waitFor("level=WARN", "could not create the triggers", "they are missing")
	for i := range 3 {
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
		w.expectAlerts([]string{"disabled openai", "resolved openai", "disabled openai"}[:i+1]...)
	}
	p.becomes(http.StatusOK)
	require.Equal(t, 1, p.logged("could not create the triggers"))
	p.stop()
}

// testGatewayUpgradeSessionsWithoutTriggers changes providers with
// session_replication_role = replica, in which ordinary triggers do not fire. The next
// resync is far away.
func testGatewayUpgradeSessionsWithoutTriggers(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	// As the owner, who can make the triggers.
	env := w.twoProviders().With("DATABASE_URL", w.url)
	p := w.start(env, "run", "--resync=24h").ready()
	// An alert of a hint: the leader's first verification is over.
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	w.exec(`SET session_replication_role = replica`)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	require.Equal(t, []string{"notify"}, w.strings(`SELECT source FROM provwatch.drift_alerts WHERE seq = 2`))

	// As pg_restore --disable-triggers does.
	w.exec(`ALTER TABLE ai_providers DISABLE TRIGGER ALL`)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(`ALTER TABLE ai_providers ENABLE TRIGGER ALL`)
	w.expectAlerts("disabled openai", "resolved openai", "disabled openai")
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%' AND tgenabled = 'A'`) == 8
	}, "the worker makes the triggers again")
	p.stop()
}

// testGatewayUpgradeTriggersNotOfEverySession has them so under a role that cannot mend it. The
// next resync is far away.
func testGatewayUpgradeTriggersNotOfEverySession(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.exec(`ALTER TABLE ai_providers ENABLE TRIGGER ALL`)
	p := w.start(w.twoProviders(), "run", "--resync=24h", "--http-addr=127.0.0.1:0").ready()
	p.waitFor("level=WARN", "could not create the triggers", "session_replication_role = replica", "worker migrate --source=notify")
	w.exec(`SET session_replication_role = replica`)
	for i := range 2 {
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
		w.expectAlerts([]string{"disabled openai", "resolved openai"}[:i+1]...)
	}
	p.becomes(http.StatusOK)
	require.Equal(t, 1, p.logged("could not create the triggers"))
	p.stop()
}

// dropTriggers drops our triggers on the provider tables.
func (w *world) dropTriggers() {
	w.t.Helper()
	for _, drop := range w.strings(`SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`) {
		w.exec(drop)
	}
}
