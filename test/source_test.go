//go:build e2e

package test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

func TestSource(t *testing.T) {
	t.Parallel()
	t.Run("WALWithoutOwnership", testSourceWALWithoutOwnership)
	t.Run("UnpublishableTables", testSourceUnpublishableTables)
	t.Run("UnloggedTables", testSourceUnloggedTables)
	t.Run("RemovingTriggersBlocksNobody", testSourceRemovingTriggersBlocksNobody)
	t.Run("SeveralRowsOfAName", testSourceSeveralRowsOfAName)
	t.Run("UnreadableStreamIsAGap", testSourceUnreadableStreamIsAGap)
}

func testSourceWALWithoutOwnership(t *testing.T) {
	t.Parallel()
	w := newOwnerWorld(t)
	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "notify"}, "migrate").Code)
	role := w.limitedRole()
	w.exec(fmt.Sprintf(`ALTER ROLE %[1]s REPLICATION;
		GRANT SELECT, INSERT ON ai_providers, ai_provider_keys TO %[1]s; GRANT SELECT ON dbcrypt_keys TO %[1]s; GRANT USAGE ON SCHEMA provwatch TO %[1]s;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA provwatch TO %[1]s;
		GRANT EXECUTE ON FUNCTION provwatch.stand_by TO %[1]s`, role.name))
	env := w.twoProviders().With("DATABASE_URL", role.url)

	r := w.run(env, "run", "--source=wal")
	require.Equal(t, 4, r.Code)
	require.Contains(t, r.Stderr, `the role does not own them; run "worker migrate --source=wal" as their owner`)

	p := w.start(env, "run").ready()
	p.waitFor("source=notify")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.stop()

	require.Equal(t, 0, w.run(nil, "migrate", "--source=wal").Code)
	p = w.start(env, "run", "--source=wal").ready()
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	sources := w.strings(`SELECT source FROM provwatch.drift_alerts ORDER BY seq`)
	// Each time that the worker tries the WAL again it verifies everything, which can come first.
	require.Contains(t, []string{"notify", "resync"}, sources[0])
	require.Equal(t, "wal", sources[1])
	p.stop()
}

// testSourceUnpublishableTables gives the provider tables
// another replica identity: publishing them would make the gateway's updates
// fail.
func testSourceUnpublishableTables(t *testing.T) {
	t.Parallel()
	w := newOwnerWorld(t)
	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "notify"}, "migrate").Code)
	w.exec(`ALTER TABLE ai_providers REPLICA IDENTITY FULL`)
	env := w.twoProviders()
	r := w.run(env, "run", "--source=wal")
	require.Equal(t, 4, r.Code)
	require.Contains(t, r.Stderr, "ALTER TABLE … REPLICA IDENTITY DEFAULT")
	p := w.start(env, "run").ready()
	p.waitFor("source=notify")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")

	// Back to what can be published, and away from it under the running worker.
	w.exec(`ALTER TABLE ai_providers REPLICA IDENTITY DEFAULT`)
	p.waitFor("source=wal")
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	w.exec(`ALTER TABLE ai_providers REPLICA IDENTITY FULL`)
	eventually(t, func() bool {
		return tryExec(t.Context(), w.url, `UPDATE ai_providers SET enabled = false WHERE name = 'openai'`) == nil
	}, "the gateway can write again")
	eventually(t, func() bool { return len(w.alerts()) == 4 }, "an alert and a gap, have %q", lazily(w.alerts))
	require.ElementsMatch(t, []string{"disabled openai", "resolved openai", "gap", "disabled openai"}, w.alerts())
	p.stop()
}

// testSourceUnloggedTables has provider tables of which the WAL has nothing, until they are
// logged under a running worker.
func testSourceUnloggedTables(t *testing.T) {
	t.Parallel()
	w := newOwnerWorld(t)
	w.exec(`ALTER TABLE ai_provider_keys SET UNLOGGED`)
	w.exec(`ALTER TABLE ai_providers SET UNLOGGED`)
	env := w.twoProviders()
	r := w.run(env, "run", "--source=wal")
	require.Equal(t, 4, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "(the WAL has nothing of tables that are unlogged; ALTER TABLE … SET LOGGED, or use --source=notify)")
	p := w.start(env, "run").ready()
	p.waitFor("source=notify", "tables that are unlogged")
	w.exec(`ALTER TABLE ai_providers SET LOGGED`)
	w.exec(`ALTER TABLE ai_provider_keys SET LOGGED`)
	p.waitFor("source=wal")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.stop()
}

// testSourceRemovingTriggersBlocksNobody holds a transaction
// that has read a provider table, as a backup does, while the worker returns to
// the WAL.
func testSourceRemovingTriggersBlocksNobody(t *testing.T) {
	t.Parallel()
	w := newOwnerWorld(t)
	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "notify"}, "migrate").Code)
	unlock := w.lock("ai_providers", "ACCESS SHARE")
	p := w.start(w.twoProviders(), "run", "--source=wal").ready()
	p.waitFor("triggers that the WAL source does not need are still there")
	// A query that queued behind the worker would wait for the lock's end.
	for range 50 {
		_, err := w.db.Exec(waittest.Context(t), `SELECT count(*) FROM ai_providers`)
		require.NoError(t, err)
	}
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	unlock()
	p.stop()
	p = w.start(w.twoProviders(), "run", "--source=wal").ready()
	eventually(t, func() bool { return w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`) == 0 }, "the triggers are removed")
	p.stop()
}

func testSourceSeveralRowsOfAName(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		w.run(nil, "migrate")
		w.exec(`DROP INDEX ai_providers_name_unique`)
		p := w.start(w.twoProviders(), "run", "--resync=300ms").ready()
		w.exec(`INSERT INTO ai_providers (id, type, name, base_url, updated_at) VALUES
			('00000000-0000-0000-0000-000000000001', 'openai', 'openai', 'https://newer.example/', now() + interval '1 hour')`)
		w.expectAlerts("changed openai")
		w.exec(`UPDATE ai_providers SET updated_at = now() + interval '2 hours' WHERE base_url = 'https://api.openai.com/v1/'`)
		w.expectAlerts("changed openai", "resolved openai")
		w.exec(`DELETE FROM ai_providers WHERE base_url = 'https://api.openai.com/v1/'`)
		w.expectAlerts("changed openai", "resolved openai", "changed openai")
		require.Zero(t, p.logged("replication slot given up"))
		p.stop()
	})
}

func testSourceUnreadableStreamIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	p := w.start(w.twoProviders(), "run").ready()
	p.kill9()
	w.exec(`ALTER TABLE ai_providers RENAME COLUMN base_url TO url`)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(`ALTER TABLE ai_providers RENAME COLUMN url TO base_url`)
	p = w.start(w.twoProviders(), "run").ready()
	w.expectAlerts("gap", "disabled openai")
	p.stop()
}

func testSlotGapAnnouncedAfterAKill(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	env := w.twoProviders()
	w.start(env, "run").ready().kill9()
	w.endSessions()
	// As a worker leaves it that was killed with a new slot and the old position.
	name := w.freeSlot()
	w.exec(`UPDATE provwatch.wal_position SET gap = 'the slot was lost'`)
	w.exec(`SELECT pg_drop_replication_slot($1)`, name)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, name)
	p := w.start(env, "run", "--on-boot-drift=alert").ready()
	w.expectAlerts("gap", "disabled openai")
	p.stop()
}

func testFallbackUnreadWALIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	require.Equal(t, 0, w.run(nil, "migrate", "--source=notify").Code)
	env := w.twoProviders()
	w.start(env, "run").ready().kill9()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	p := w.start(env, "run", "--source=notify").ready()
	w.expectAlerts("gap")
	require.Equal(t, []string{"notify: notifications are the source"}, w.strings(`SELECT source || ': ' || reason FROM provwatch.drift_alerts`))
	p.stop()
}

// testFallbackStaysReady has a role that may not replicate, so that
// --source=auto uses notifications, and tries the WAL in vain now and then.
func testFallbackStaysReady(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	manager := newServiceManager(t)
	env := w.twoProviders().With("NOTIFY_SOCKET", manager.socket)
	p := w.start(env, "run", "--source=auto", "--resync=24h", "--log-level=debug").ready()
	manager.settle()
	before := manager.count("STATUS=not ready")
	tried := func() bool { return p.logged("msg=verified", "full=true") > 1 } // after each try
	eventually(t, tried, "the WAL is tried again")
	manager.settle()
	require.Equal(t, before, manager.count("STATUS=not ready"))
	p.stop()
}
