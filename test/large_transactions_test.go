//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
)

// bulk is how many providers a large transaction of these tests changes.
const bulk = 100_000

// insertBulk inserts providers that the environment does not name, with settings.
const insertBulk = `INSERT INTO ai_providers (id, type, name, base_url, settings)
	SELECT gen_random_uuid(), 'anthropic', 'bulk-' || n, 'https://provider-' || n || '.example/v1/',
		'{"_type":"bedrock","_version":1,"region":"us-east-1","model":"' || repeat('m', 200) || '"}'
	FROM generate_series(1, %d) n`

// maxHeapInBulk bounds the heap of a worker, built with the race detector, that the
// WAL shows transactions of [bulk] providers, in bytes. A worker that kept them would
// need several times as much.
const maxHeapInBulk = 48 << 20

// withoutStatementLog keeps the statements of sessions to come out of the server's
// log, with parameters as large as these tests make them.
func (w *world) withoutStatementLog() {
	w.t.Helper()
	w.exec("ALTER DATABASE " + pgx.Identifier{w.db.Config().Database}.Sanitize() + " SET log_statement = 'none'")
}

// expectMirrored waits until the stored mirror is the provider table.
func (w *world) expectMirrored(rows int) {
	w.t.Helper()
	eventually(w.t, func() bool {
		return w.count(`SELECT count(*) FROM provwatch.wal_mirror`) == rows && w.count(`SELECT count(*)
			FROM ai_providers p FULL JOIN provwatch.wal_mirror m USING (id)
			WHERE (p.name, p.type::text, p.base_url, p.enabled, p.deleted) IS DISTINCT FROM (m.name, m.type, m.base_url, m.enabled, m.deleted)`) == 0
	}, "the mirror has the %d rows of the table, have %s", rows, lazily(func() []string {
		return []string{fmt.Sprint(w.count(`SELECT count(*) FROM provwatch.wal_mirror`))}
	}))
}

func TestLargeTransaction(t *testing.T) {
	t.Parallel()
	t.Run("IsStreamed", testLargeTransactionIsStreamed)
	t.Run("Truncate", testLargeTransactionTruncate)
	t.Run("KilledInside", testLargeTransactionKilledInside)
}

func testLargeTransactionIsStreamed(t *testing.T) {
	t.Parallel()
	// Its long transactions would hold up the creation of other tests' slots.
	w := newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "")
	w.withoutStatementLog()
	p := w.start(w.twoProviders(), "run", "--unmanaged=ignore", "--source=wal", "--http-addr=127.0.0.1:0").ready()

	// What it does to named providers is in its first, its last and other parts.
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	var xid int64
	require.NoError(t, tx.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&xid))
	for _, statement := range []string{
		`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`,
		`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`,
		fmt.Sprintf(insertBulk, bulk),
		`UPDATE ai_providers SET enabled = true WHERE name = 'anthropic'`,
	} {
		_, err := tx.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit(t.Context()))
	w.expectAlerts("disabled openai")
	w.expectMirrored(bulk + 2)
	var alert pubsub.DriftAlert
	require.NoError(t, json.Unmarshal([]byte(w.payloads(pubsub.DriftAlerts)[0]), &alert))
	require.Equal(t, pubsub.SourceWAL, alert.Source)
	require.Equal(t, xid, alert.XID)
	require.Equal(t, 1, w.count(`SELECT count(*) FROM provwatch.drift_alerts a, provwatch.wal_position p WHERE a.lsn <= p.applied_lsn AND a.committed_at <= now()`))

	// The others are smaller, and in parts as well.
	w.exec(`UPDATE ai_providers SET enabled = true, base_url = CASE WHEN name = 'openai' THEN base_url ELSE base_url || 'changed' END
		WHERE name = 'openai' OR name LIKE 'bulk-1%'`)
	w.expectAlerts("disabled openai", "resolved openai")
	w.expectMirrored(bulk + 2)

	w.exec(`DELETE FROM ai_providers WHERE name = 'anthropic' OR name LIKE 'bulk-2%'`)
	w.expectAlerts("disabled openai", "resolved openai", "missing anthropic")
	w.expectMirrored(w.count(`SELECT count(*) FROM ai_providers`))

	heap := p.metric("go_memstats_heap_sys_bytes")
	t.Logf("the heap had at most %.0f MB", heap/(1<<20))
	require.Less(t, heap, float64(maxHeapInBulk))
	require.Zero(t, p.logged("level=WARN", "stream"))
	w.exec(`TRUNCATE ai_providers, ai_provider_keys`)
	w.expectMirrored(0)
	p.stop()
}

func testLargeTransactionTruncate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withoutStatementLog()
	p := w.start(w.twoProviders(), "run", "--unmanaged=ignore", "--source=wal").ready()
	w.exec(`CREATE TABLE kept AS SELECT id, type, name, base_url FROM ai_providers WHERE name = 'openai'`)
	w.exec(fmt.Sprintf(insertBulk, bulk/10) + `; TRUNCATE ai_providers, ai_provider_keys; ` + fmt.Sprintf(insertBulk, bulk/10) +
		`; INSERT INTO ai_providers (id, type, name, base_url) SELECT id, type, name, base_url FROM kept`)
	w.expectAlerts("missing anthropic")
	w.expectMirrored(bulk/10 + 1)
	require.Zero(t, p.logged("level=WARN", "stream"))
	p.stop()
}

// testLargeTransactionKilledInside kills a worker that has stored the parts of a
// transaction, before it records what the whole has changed.
func testLargeTransactionKilledInside(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	w.withoutStatementLog()
	env := w.twoProviders()
	p := w.start(env, "run", "--unmanaged=ignore", "--source=wal").ready()
	unlock := w.lock("provwatch.alert_counter", "EXCLUSIVE")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'; ` + fmt.Sprintf(insertBulk, bulk/10))
	eventually(t, func() bool { return w.waiting("provwatch.alert_counter") }, "the worker records the transaction")
	require.Zero(t, w.count(`SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation = 'ai_providers'::regclass AND a.datname = current_database() AND a.application_name LIKE 'provwatch%'`),
		"a transaction that can last keeps no lock that the gateway's upgrade would wait for")
	p.kill9()
	require.Equal(t, 2, w.count(`SELECT count(*) FROM provwatch.wal_mirror`), "all or nothing")
	unlock()

	p = w.start(env, "run", "--unmanaged=ignore", "--source=wal", "--on-boot-drift=alert").ready()
	w.expectAlerts("disabled openai")
	require.Equal(t, []string{"wal"}, w.strings(`SELECT source FROM provwatch.drift_alerts`))
	w.expectMirrored(bulk/10 + 2)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	require.Zero(t, p.logged("level=WARN", "stream"))
	p.stop()
}
