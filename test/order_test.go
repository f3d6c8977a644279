//go:build e2e

package test

import (
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

func TestWALOrder(t *testing.T) {
	t.Parallel()
	t.Run("StoredBeforeConfirmed", testWALOrderStoredBeforeConfirmed)
	t.Run("PositionWithItsAlerts", testWALOrderPositionWithItsAlerts)
	t.Run("GapMarkedBeforeTheSlotIsTouched", testWALOrderGapMarkedBeforeTheSlotIsTouched)
	t.Run("FrozenDuringTheMirror", testWALOrderFrozenDuringTheMirror)
}

// testWALOrderStoredBeforeConfirmed keeps the worker from recording a transaction
// that it has received, until it has sent the server a status.
func testWALOrderStoredBeforeConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(w.twoProviders(), "run", "--source=wal").ready()
	unlock := w.lock("provwatch.alert_counter", "EXCLUSIVE")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	var committed string
	require.NoError(t, w.db.QueryRow(t.Context(), `SELECT pg_current_wal_lsn()::text`).Scan(&committed))
	eventually(t, func() bool { return w.waiting("provwatch.alert_counter") }, "the worker records")
	var before string
	reply := `SELECT coalesce(r.reply_time::text, '') FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.database = current_database()`
	require.NoError(t, w.db.QueryRow(t.Context(), reply).Scan(&before))
	eventually(t, func() bool {
		var now string
		require.NoError(t, w.db.QueryRow(t.Context(), reply).Scan(&now))
		return now != before
	}, "it has sent a status")
	confirmed := `SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND confirmed_flush_lsn >= $1::pg_lsn`
	require.Zero(t, w.count(confirmed, committed), "a transaction that is not stored is confirmed")
	p.kill9()
	unlock()
	w.start(w.twoProviders(), "run", "--source=wal", "--on-boot-drift=alert").ready()
	w.expectAlerts("disabled openai")
	require.Equal(t, []string{"wal"}, w.strings(`SELECT source FROM provwatch.drift_alerts`))
	eventually(t, func() bool { return w.count(confirmed, committed) == 1 }, "it is confirmed once it is stored")
}

// testWALOrderPositionWithItsAlerts has a table that refuses the alerts of a
// drift and of its end. With a position beyond them they would be lost.
func testWALOrderPositionWithItsAlerts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(w.twoProviders(), "run", "--source=wal").ready()
	w.exec(`ALTER TABLE provwatch.drift_alerts ADD CONSTRAINT refused CHECK (provider <> 'openai')`)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	p.waitFor("replication stream ended", "refused")
	w.exec(`ALTER TABLE provwatch.drift_alerts DROP CONSTRAINT refused`)
	w.expectAlerts("disabled openai", "resolved openai")
	require.Equal(t, []string{"wal", "wal"}, w.strings(`SELECT source FROM provwatch.drift_alerts`))
	p.stop()
}

// testWALOrderGapMarkedBeforeTheSlotIsTouched kills a worker while it makes a new slot, which
// waits for a transaction of the server.
func testWALOrderGapMarkedBeforeTheSlotIsTouched(t *testing.T) {
	t.Parallel()
	// The transaction would hold up the slots of other tests.
	w := newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "")
	env := w.twoProviders()
	w.start(env, "run", "--source=wal").ready().kill9()
	w.endSessions()
	w.exec(`SELECT pg_drop_replication_slot($1)`, w.freeSlot())
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	conn := w.connect()
	tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{})
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pg_current_xact_id()`)
	require.NoError(t, err)

	p := w.start(env, "run", "--source=wal", "--on-boot-drift=alert")
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND query LIKE 'CREATE_REPLICATION_SLOT%' AND wait_event_type = 'Lock'`) == 1
	}, "the new slot waits")
	require.Equal(t, []string{"the replication slot no longer exists"}, w.strings(`SELECT gap FROM provwatch.wal_position`))
	p.kill9()
	require.NoError(t, tx.Rollback(t.Context()))

	w.start(env, "run", "--source=wal", "--on-boot-drift=alert").ready()
	require.Equal(t, []string{""}, w.strings(`SELECT gap FROM provwatch.wal_position`))
	w.expectAlerts("gap", "disabled openai")
	require.Equal(t, []string{"the replication slot no longer exists"}, w.strings(`SELECT reason FROM provwatch.drift_alerts WHERE kind = 'gap'`))
}

// testWALOrderFrozenDuringTheMirror stops a leader whose statement waits, and lets
// the statement end: its transaction then keeps rows of the mirror, and others waiting.
func testWALOrderFrozenDuringTheMirror(t *testing.T) {
	t.Parallel()
	// The transaction would hold up the slots of other tests.
	w := newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "wal")
	unlock := w.lock("provwatch.wal_mirror", "SHARE")
	p := w.start(w.twoProviders(), "run")
	eventually(t, func() bool { return w.waiting("provwatch.wal_mirror") }, "the worker saves the mirror")
	p.signal(syscall.SIGSTOP)
	unlock()
	idle := func() int {
		return w.count(`SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
			WHERE a.state = 'idle in transaction' AND l.relation = 'provwatch.wal_mirror'::regclass AND a.datname = current_database()`)
	}
	eventually(t, func() bool { return idle() == 1 }, "the transaction stands still")
	began := time.Now()
	eventually(t, func() bool { return idle() == 0 }, "the server has ended it")
	require.Less(t, time.Since(began), 45*time.Second, "it took as long as any other transaction may")
	p.signal(syscall.SIGCONT)
	p.ready()
	p.stop()
}
