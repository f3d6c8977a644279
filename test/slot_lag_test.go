//go:build e2e

package test

import (
	"testing"

	"provwatch/internal/pgtest"
)

// busy writes some 20 MB of WAL that is not of the provider tables.
const busy = `CREATE TABLE busy AS SELECT n, repeat('x', 1000) AS filler FROM generate_series(1, 20000) n`

func testSlotRetainingTooMuchIsGivenUp(t *testing.T) {
	t.Parallel()
	// Its long transactions would hold up the creation of other tests' slots.
	w := newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "wal")
	p := w.start(w.twoProviders(), "run", "--slot-max-lag=4MB").ready()
	// What keeps the worker from recording keeps the slot from advancing.
	unlock := w.lock("provwatch.alert_counter", "EXCLUSIVE")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(busy)
	p.waitFor("replication slot given up", "more than --slot-max-lag")
	unlock()
	w.expectAlerts("gap", "disabled openai")
	p.stop()
}

// waitUntilQuiet waits until the slot is not measured as often as while the stream shows WAL.
func (w *world) waitUntilQuiet() {
	w.t.Helper()
	eventually(w.t, func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'provwatch'
			AND query_start > now() - interval '12 s'`) == 0
	}, "the worker sends no statement")
}

// testSlotMeasuredWhileSilent has a slot that retains more and more while the
// worker sees nothing of it.
func testSlotMeasuredWhileSilent(t *testing.T) {
	t.Parallel()
	// The backlog is full of changes that cannot be recorded, so that the stream is not read.
	t.Run("not read", func(t *testing.T) {
		t.Parallel()
		w := newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "wal")
		// By a Unix socket: what nobody reads ends a TCP connection after half a minute.
		env := w.twoProviders().With("DATABASE_URL", w.as(w.login["run"]))
		p := w.start(env, "run", "--slot-max-lag=20MB", "--resync=24h", "--answer-timeout=10m", "--rollback-after=1h").ready()
		unlock := w.lock("provwatch.alert_counter", "EXCLUSIVE")
		for range 50 {
			w.exec(`UPDATE ai_providers SET base_url = 'https://' || repeat('x', 100000) || '.example/' WHERE name = 'openai'`)
		}
		w.waitUntilQuiet()
		w.exec(busy)
		p.waitFor("replication slot given up", "more than --slot-max-lag")
		unlock()
		w.expectAlerts("gap", "changed openai")
		p.stop()
	})
	// The server's process of the stream is frozen, and no other can stream from the slot.
	t.Run("frozen", func(t *testing.T) {
		t.Parallel()
		s := &stated{world: newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "wal")}
		p := s.start(s.twoProviders(), "run", "--slot-max-lag=30MB", "--resync=24h").ready()
		thaw := s.freeze(`backend_type = 'walsender'`)
		p.waitFor("replication stream ended", "the server has not answered for")
		s.exec(busy)
		p.waitFor("level=WARN", "the replication slot retains more than half of --slot-max-lag")
		s.exec(`INSERT INTO busy SELECT * FROM busy`)
		eventually(t, func() bool {
			return s.count(`SELECT count(*) FROM provwatch.wal_position WHERE gap LIKE '%more than --slot-max-lag'`) == 1
		}, "the slot is given up")
		thaw()
		s.expectAlerts("gap")
		p.stop()
	})
}
