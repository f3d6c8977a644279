//go:build e2e

package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/embedded"
	"provwatch/internal/pgtest"
)

func TestSlot(t *testing.T) {
	t.Parallel()
	t.Run("GapWhileNobodyListens", testSlotGapWhileNobodyListens)
	t.Run("MovedIsAGap", testSlotMovedIsAGap)
	t.Run("BusyDatabaseIsNoGap", testSlotBusyDatabaseIsNoGap)
	t.Run("InvalidatedIsAGap", testSlotInvalidatedIsAGap)
	t.Run("PositionOfAnotherServerIsAGap", testSlotPositionOfAnotherServerIsAGap)
	t.Run("RetainingTooMuchIsGivenUp", testSlotRetainingTooMuchIsGivenUp)
	t.Run("MeasuredWhileSilent", testSlotMeasuredWhileSilent)
	t.Run("GapAnnouncedAfterAKill", testSlotGapAnnouncedAfterAKill)
	t.Run("LostIsAGap", testSlotLostIsAGap)
	t.Run("Drop", testSlotDrop)
	t.Run("FailoverSlot", testSlotFailoverSlot)
	t.Run("DroppedByNotify", testSlotDroppedByNotify)
}

// testSlotMovedIsAGap has a change and its reversal that somebody else
// takes from the slot while no worker runs.
func testSlotMovedIsAGap(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]string{
		"advanced": `SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`,
		"read":     `SELECT count(*) FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'provwatch')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, "wal")
			env := w.twoProviders()
			w.start(env, "run").ready().stop()
			slot := w.freeSlot()
			w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
			w.exec(take, slot)
			p := w.start(env, "run").ready()
			w.expectAlerts("gap")
			p.waitFor("level=WARN", "changes may have passed unseen", "another client advanced, read or created it")
			// From then on it is the worker's again.
			w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			w.expectAlerts("gap", "disabled openai")
			p.stop()
			p = w.start(env, "run", "--on-boot-drift=alert").ready()
			w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
			w.expectAlerts("gap", "disabled openai", "resolved openai")
			p.stop()
		})
	}
	t.Run("another kind", func(t *testing.T) {
		t.Parallel()
		w := newWorldOf(t, "wal")
		env := w.twoProviders()
		w.start(env, "run").ready().stop()
		slot := w.freeSlot()
		w.exec(`SELECT pg_drop_replication_slot($1)`, slot)
		w.exec(`SELECT pg_create_physical_replication_slot($1)`, slot)
		p := w.start(env, "run").ready()
		w.expectAlerts("gap")
		p.waitFor("level=WARN", "changes may have passed unseen", "another client created a")
		p.stop()
	})
}

// testSlotBusyDatabaseIsNoGap has a worker that passes over much WAL of other tables between
// two starts of it, in an orderly way and not.
func testSlotBusyDatabaseIsNoGap(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	env := w.twoProviders()
	w.exec(`CREATE TABLE busy (filler text)`)
	for i := range 4 {
		p := w.start(env, "run").ready()
		w.exec(`INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 20000) n`)
		eventually(t, func() bool {
			w.exec(`SELECT pg_logical_emit_message(false, 'test', 'x')`)
			return w.count(`SELECT count(*) FROM pg_replication_slots s, provwatch.wal_position p
				WHERE s.database = current_database() AND s.confirmed_flush_lsn = p.applied_lsn AND p.applied_lsn > pg_current_wal_lsn() - 16777216::numeric`) == 1
		}, "the position follows the WAL")
		if i%2 == 0 {
			p.kill9()
		} else {
			p.stop()
		}
		w.exec(`INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 2000) n`)
	}
	w.start(env, "run").ready().stop()
	require.Empty(t, w.alerts())
}

// testSlotInvalidatedIsAGap has a server that keeps little WAL while no
// worker runs.
func testSlotInvalidatedIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "wal")
	env := w.twoProviders()
	w.start(env, "run").ready().stop()
	w.exec(`ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'`)
	w.exec(`SELECT pg_reload_conf()`)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.exec(`CREATE TABLE busy (filler text)`)
	eventually(t, func() bool {
		w.exec(`INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 20000) n`)
		w.exec(`SELECT pg_switch_wal()`)
		w.exec(`CHECKPOINT`)
		_, status, _ := w.slot()
		return status == "lost"
	}, "the slot is lost")
	p := w.start(env, "run").ready()
	p.waitFor("level=WARN", "changes may have passed unseen", "the server has removed WAL that the replication slot needs (max_slot_wal_keep_size)")
	w.expectAlerts("gap")
	require.Equal(t, 1, p.logged("level=WARN", "replication slot"))
	p.stop()
}

// needsDump skips the test when pg_dump is older than the server, which it refuses then. It
// comes before a subtest that takes a dump.
func (w *world) needsDump() {
	w.t.Helper()
	if pgtest.BinDir() != "" && w.count(`SELECT current_setting('server_version_num')::int / 10000`) > dumpVersion(w.t) {
		w.t.Skip("pg_dump is older than the server")
	}
}

// dumpFile returns the file of a dump of the database, after needsDump.
func (w *world) dumpFile() string {
	w.t.Helper()
	dump := w.file("dump", "")
	w.program("pg_dump", "-Fc", "-f", dump, "-d", w.url)
	return dump
}

// restore replaces what is in the database by a dump, as somebody would who renews a copy.
func (w *world) restore(dump string) {
	w.t.Helper()
	w.program("pg_restore", "--clean", "--if-exists", "--no-publications", "-d", w.url, dump)
}

func (w *world) program(name string, args ...string) {
	w.t.Helper()
	binDir, err := embedded.FindBinDir(w.t.Context(), 0)
	require.NoError(w.t, err)
	out, err := exec.Command(filepath.Join(binDir, name), args...).CombinedOutput()
	require.NoError(w.t, err, "%s", out)
}

// testSlotPositionOfAnotherServerIsAGap restores production, whose WAL is further, into a
// database of another server that is watched: both have the same oid.
func testSlotPositionOfAnotherServerIsAGap(t *testing.T) {
	t.Parallel()
	worlds := make([]*world, 2)
	for i := range worlds {
		worlds[i] = newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "wal")
		worlds[i].needsDump()
		worlds[i].login = nil // its tables are dropped and made again
	}
	production, staging := worlds[0], worlds[1]
	oid := func(w *world) int {
		return w.count(`SELECT oid::int FROM pg_database WHERE datname = current_database()`)
	}
	require.Equal(t, oid(production), oid(staging))
	env := staging.twoProviders()
	production.start(env, "run").ready()
	production.exec(`CREATE TABLE busy AS SELECT n, repeat('x', 1000) AS filler FROM generate_series(1, 40000) n`)
	production.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	production.expectAlerts("disabled openai")
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("running %v", running), func(t *testing.T) {
			p := staging.start(env, "run", "--on-boot-drift=alert", "--http-addr=127.0.0.1:0").ready()
			if !running {
				p.stop()
			}
			before := staging.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE kind = 'gap'`)
			staging.restore(production.dumpFile())
			if !running {
				require.Equal(t, before, 0)
				p = staging.start(env, "run", "--on-boot-drift=alert", "--http-addr=127.0.0.1:0")
			}
			eventually(t, func() bool {
				return staging.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE kind = 'gap' AND reason LIKE 'the database has the position of another server%'`) == 1
			}, "the gap is said, have %s", lazily(staging.alerts))
			eventually(t, func() bool { code, _ := p.get("/readyz"); return code == 200 }, "it is ready")
			staging.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
			eventually(t, func() bool {
				return staging.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE kind = 'resolved'`) == 1
			}, "the stream goes on")
			require.Equal(t, 1, staging.count(`SELECT count(*) FROM pg_replication_slots s, provwatch.wal_position p
				WHERE s.database = current_database() AND s.confirmed_flush_lsn <= pg_current_wal_lsn() AND p.applied_lsn <= pg_current_wal_lsn()`))
			p.stop()
		})
	}
}
