//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
)

// slot returns what the server says of the database's slot.
func (w *world) slot() (name, status string, retained int64) {
	w.t.Helper()
	err := w.db.QueryRow(w.t.Context(), `SELECT slot_name, coalesce(wal_status, ''), coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
		FROM pg_replication_slots WHERE database = current_database()`).Scan(&name, &status, &retained)
	if err == pgx.ErrNoRows {
		return "", "", 0
	}
	require.NoError(w.t, err)
	return name, status, retained
}

// freeSlot returns the name of the database's slot, once no session streams from it: the session
// of a worker that has ended can outlive it a little.
func (w *world) freeSlot() string {
	w.t.Helper()
	w.awaitFreeSlots()
	name, _, _ := w.slot()
	require.NotEmpty(w.t, name)
	return name
}

// awaitFreeSlots waits until no session streams from a slot of the database.
func (w *world) awaitFreeSlots() {
	w.t.Helper()
	eventually(w.t, func() bool {
		return w.count(`SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND active`) == 0
	}, "the slot is released")
}

// statuses returns the events published on provwatch_status.
func (w *world) statuses() []pubsub.Status {
	w.t.Helper()
	var list []pubsub.Status
	for _, payload := range w.published(pubsub.Statuses) {
		var s pubsub.Status
		require.NoError(w.t, json.Unmarshal([]byte(payload), &s))
		list = append(list, s)
	}
	return list
}

// waitForGaps waits for as many gaps.
func (w *world) waitForGaps(n int) {
	w.t.Helper()
	eventually(w.t, func() bool { return w.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE kind = 'gap'`) >= n }, "%d gaps, have %q", n, lazily(w.alerts))
}

func TestWAL(t *testing.T) {
	t.Parallel()
	t.Run("RowNotInTheStreamIsReadAgain", testWALRowNotInTheStreamIsReadAgain)
	t.Run("AlertsNameTheirTransaction", testWALAlertsNameTheirTransaction)
	t.Run("ReversalWhileDown", testWALReversalWhileDown)
	t.Run("KilledAtAnyMoment", testWALKilledAtAnyMoment)
	t.Run("ValuesThatItDoesNotCarry", testWALValuesThatItDoesNotCarry)
	t.Run("TruncatesAndSchemaChanges", testWALTruncatesAndSchemaChanges)
	t.Run("IdleTableInABusyDatabase", testWALIdleTableInABusyDatabase)
	t.Run("PublicationIsRestored", testWALPublicationIsRestored)
}

func testWALAlertsNameTheirTransaction(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	w.start(w.twoProviders(), "run", "--source=wal").ready()
	require.Zero(t, w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`), "the writers pay nothing")
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	var xid int64
	require.NoError(t, tx.QueryRow(t.Context(), `WITH u AS (UPDATE ai_providers SET enabled = false) SELECT pg_current_xact_id()::text::bigint`).Scan(&xid))
	require.NoError(t, tx.Commit(t.Context()))
	w.expectAlerts("disabled anthropic", "disabled openai")
	for _, payload := range w.payloads(pubsub.DriftAlerts) {
		var alert pubsub.DriftAlert
		require.NoError(t, json.Unmarshal([]byte(payload), &alert))
		require.Equal(t, pubsub.SourceWAL, alert.Source)
		require.Equal(t, xid, alert.XID)
		require.Regexp(t, `^[0-9A-F]+/[0-9A-F]+$`, alert.LSN)
		require.WithinDuration(t, time.Now(), alert.CommittedAt, patience)
	}
	require.Equal(t, 2, w.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE lsn <= pg_current_wal_lsn() AND xid = $1 AND committed_at <= now()`, xid))
}

func testWALReversalWhileDown(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	env := w.twoProviders()
	w.start(env, "run").ready().kill9()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	// In one transaction it is no transition at all.
	w.exec(`BEGIN; UPDATE ai_providers SET enabled = false; UPDATE ai_providers SET enabled = true WHERE name IN ('anthropic', 'openai'); COMMIT`)
	w.start(env, "run").ready()
	w.expectAlerts("disabled openai", "resolved openai")
	require.Equal(t, []string{"wal", "wal"}, w.strings(`SELECT source FROM provwatch.drift_alerts`))
}

// testWALKilledAtAnyMoment makes
// 1,000 random changes while the worker is down and more while it is killed, and
// compares with a history that knows every commit.
func testWALKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	env := w.twoProviders()
	p := w.start(env, "run").ready()

	m := newHistory(w)
	for range 100 {
		m.change(random)
	}
	p.kill9()
	for range 1000 {
		m.change(random) // while nobody reads
	}
	// Killed again and again while it catches up and while more comes.
	for range 8 {
		p = w.start(env, "run", "--on-boot-drift=alert")
		p.waitFor("msg=streaming")
		for range random.IntN(60) {
			m.change(random)
		}
		p.kill9()
	}
	p = w.start(env, "run", "--on-boot-drift=alert")
	m.settle()
	eventually(t, func() bool { return len(w.alerts()) >= len(m.want) }, "%d alerts, have %s", len(m.want),
		lazily(func() []string { return []string{fmt.Sprint(len(w.alerts()))} }))
	require.Equal(t, m.want, w.alerts())
	p.waitFor("msg=ready")
	p.stop()
	require.Equal(t, m.want, w.alerts())
	require.Equal(t, len(m.want), w.count(`SELECT max(seq) FROM provwatch.drift_alerts`))
	require.Zero(t, w.count(`SELECT count(*) FROM (SELECT lsn < lag(lsn) OVER (ORDER BY seq) AS back
		FROM provwatch.drift_alerts WHERE lsn IS NOT NULL) AS ordered WHERE back`), "in commit order")
}

// history is what a worker that never stopped would alert of.
type history struct {
	w    *world
	want []string
	now  map[string]string // by provider: what a look shows
	last map[string]string // by provider: the drift last alerted of
}

func newHistory(w *world) *history {
	return &history{w: w, now: map[string]string{"openai": "", "anthropic": ""}, last: map[string]string{"openai": "", "anthropic": ""}}
}

// change makes one change in a transaction of its own.
func (m *history) change(random *rand.Rand) {
	m.w.t.Helper()
	name := []string{"openai", "anthropic"}[random.IntN(2)]
	base := map[string]string{"openai": "https://api.openai.com/v1/", "anthropic": "https://api.anthropic.com/"}[name]
	switch random.IntN(5) {
	case 0:
		m.do(name, "disabled", `UPDATE ai_providers SET enabled = false, base_url = $2 WHERE name = $1`, name, base)
	case 1:
		other := fmt.Sprintf("https://other-%d.example/", random.IntN(3))
		m.do(name, "changed "+other, `UPDATE ai_providers SET enabled = true, deleted = false, base_url = $2 WHERE name = $1`, name, other)
	case 2:
		m.do(name, "deleted", `UPDATE ai_providers SET deleted = true WHERE name = $1`, name)
	default:
		m.do(name, "", `UPDATE ai_providers SET enabled = true, deleted = false, base_url = $2 WHERE name = $1`, name, base)
	}
}

func (m *history) do(name, state, query string, args ...any) {
	m.w.t.Helper()
	m.w.exec(query, args...)
	// Of a soft-deleted row nothing but its restoring shows.
	if m.now[name] == "deleted" && state == "disabled" {
		state = "deleted"
	}
	m.now[name] = state
	if state == m.last[name] {
		return
	}
	kind, _, _ := strings.Cut(state, " ")
	if kind == "" {
		kind = "resolved"
	}
	m.want = append(m.want, kind+" "+name)
	m.last[name] = state
}

// settle brings everything back in sync.
func (m *history) settle() {
	m.do("openai", "", `UPDATE ai_providers SET enabled = true, deleted = false, base_url = 'https://api.openai.com/v1/' WHERE name = 'openai'`)
	m.do("anthropic", "", `UPDATE ai_providers SET enabled = true, deleted = false, base_url = 'https://api.anthropic.com/' WHERE name = 'anthropic'`)
}

func testWALValuesThatItDoesNotCarry(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "wal")
	secret := w.secret("aws-secret-that-nobody-may-see-0123456789")
	env := environ{
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":                      "anthropic",
		"CODER_AIBRIDGE_PROVIDER_0_NAME":                      "aws",
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_REGION":            "us-east-1",
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_BASE_URL":          "https://bedrock.example/" + strings.Repeat("long/", 2000),
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY":        w.secret("AKIA-that-nobody-may-see-0123456789"),
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET": secret,
	}
	require.Equal(t, 0, w.run(nil, "migrate").Code)
	// Out of line, and so large that it does not come back in.
	w.exec(`ALTER TABLE ai_providers ALTER COLUMN settings SET STORAGE EXTERNAL, ALTER COLUMN base_url SET STORAGE EXTERNAL`)
	p := w.start(env, "run").ready()
	w.exec(`UPDATE ai_providers SET settings = (settings::jsonb || jsonb_build_object('padding', repeat('x', 100000)))::text`)

	// An update that leaves the large columns alone, also right after a restart.
	for _, restart := range []bool{false, true} {
		if restart {
			p.kill9()
		}
		w.exec(`UPDATE ai_providers SET enabled = false`)
		w.exec(`UPDATE ai_providers SET enabled = true`)
		if restart {
			p = w.start(env, "run").ready()
		}
	}
	w.expectAlerts("disabled aws", "resolved aws", "disabled aws", "resolved aws")
	// A delete carries the id alone; so does a change of the id.
	w.exec(`UPDATE ai_providers SET id = gen_random_uuid()`)
	w.exec(`DELETE FROM ai_providers`)
	w.expectAlerts("disabled aws", "resolved aws", "disabled aws", "resolved aws", "missing aws")
	require.Zero(t, p.logged("level=WARN", "slot"))
}

func testWALTruncatesAndSchemaChanges(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	p := w.start(w.twoProviders(), "run").ready()
	w.exec(`ALTER TABLE ai_providers ADD COLUMN spare text NOT NULL DEFAULT 'none'`)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(`ALTER TABLE ai_providers DROP COLUMN spare; ALTER TABLE ai_providers RENAME COLUMN display_name TO label`)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.exec(`ALTER TABLE ai_providers RENAME COLUMN label TO display_name`)
	w.exec(`TRUNCATE ai_providers, ai_provider_keys`)
	w.expectAlerts("disabled openai", "resolved openai", "missing anthropic", "missing openai")
	require.Zero(t, p.logged("replication stream ended"))
}

func testWALIdleTableInABusyDatabase(t *testing.T) {
	t.Parallel()
	// What others write, and their long transactions, would keep WAL as well.
	w := newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "wal")
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	w.exec(`CREATE TABLE busy (id int, filler text)`)
	for range 20 {
		w.exec(`INSERT INTO busy SELECT n, repeat('x', 1000) FROM generate_series(1, 2000) n`)
		w.exec(`DELETE FROM busy`)
	}
	// More than 40 MB of WAL were written. restart_lsn follows what is confirmed
	// only as the server logs its running transactions, at each checkpoint.
	w.exec(`CHECKPOINT`)
	eventually(t, func() bool {
		w.exec(`CHECKPOINT`)
		_, status, retained := w.slot()
		return status == "reserved" && retained < 8<<20
	}, "little WAL is retained, have %s", lazily(func() []string { _, s, r := w.slot(); return []string{s, fmt.Sprint(r)} }))
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	// The position confirmed is at or after the end of the alert's transaction.
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM pg_replication_slots s, provwatch.drift_alerts a
			WHERE s.database = current_database() AND s.confirmed_flush_lsn >= a.lsn`) == 1
	}, "the transaction is confirmed")
	eventually(t, func() bool { return p.metric("provwatch_slot_wal_status") == 1 }, "the slot is measured")
	p.stop()
}

func testSlotLostIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	env := w.twoProviders()
	p := w.start(env, "run").ready()
	// Dropped while the worker is down, with a change that nobody will see.
	p.kill9()
	w.endSessions()
	name := w.freeSlot()
	w.exec(`SELECT pg_drop_replication_slot($1)`, name)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	p = w.start(env, "run").ready()
	w.expectAlerts("gap", "disabled openai")

	// Dropped under the running worker.
	w.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, name)
	eventually(t, func() bool {
		return tryExec(t.Context(), w.url, fmt.Sprintf(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '%s' AND active; SELECT pg_drop_replication_slot('%s')`, name, name)) == nil
	}, "the slot is dropped before the worker takes it again")
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("gap", "disabled openai", "gap", "resolved openai")
	require.Equal(t, []string{"the replication slot no longer exists"}, w.strings(`SELECT DISTINCT reason FROM provwatch.drift_alerts WHERE kind = 'gap'`))
	require.Equal(t, 1, p.logged("level=WARN", "changes may have passed unseen", `reason="the replication slot no longer exists"`, "seq=1"))
	require.Equal(t, 1, p.logged("level=WARN", "changes may have passed unseen", "seq=3"))
	p.stop()
}

func testFallbackReturnsToTheWAL(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	env := w.twoProviders()
	role := w.limitedRole()
	pgtest.CreateGatewayTables(t, role.url)
	p := w.start(env.With("DATABASE_URL", role.url), "run").ready()
	p.waitFor("level=WARN", "alerts come from this source instead", "source=notify", "reason=")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	w.exec(fmt.Sprintf(`ALTER ROLE %s REPLICATION`, role.name))
	p.waitFor("alerts come from this source now", "source=wal")
	eventually(t, func() bool { return w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`) == 0 }, "the triggers are removed")
	p.waitFor("msg=streaming")
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	var sources []string
	for _, s := range w.statuses() {
		if s.Event == pubsub.EventSource {
			sources = append(sources, s.Source)
		}
	}
	require.Equal(t, []string{"notify", "wal"}, sources)
	p.stop()
}

type role struct{ name, url string }

// limitedRole makes a role that owns the database and may not replicate.
func (w *world) limitedRole() role {
	w.t.Helper()
	name := fmt.Sprintf("limited_%d", rand.Uint32())
	w.exec(fmt.Sprintf(`CREATE ROLE %s LOGIN; GRANT CREATE ON DATABASE %s TO %s; GRANT ALL ON SCHEMA public TO %s`,
		name, pgx.Identifier{w.db.Config().Database}.Sanitize(), name, name))
	w.t.Cleanup(func() {
		_ = tryExec(w.t.Context(), w.url, fmt.Sprintf("DROP OWNED BY %s CASCADE; DROP ROLE %s", name, name))
	})
	return role{name: name, url: w.as(name)}
}

func testSlotDrop(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	w.start(w.twoProviders(), "run").ready().stop()
	name, _, _ := w.slot()
	r := w.run(nil, "slot", "drop")
	require.Equal(t, 0, r.Code)
	require.Equal(t, "Replication slot "+name+": dropped.\n", r.Stdout)
	name, _, _ = w.slot()
	require.Empty(t, name)
	require.Contains(t, w.run(nil, "slot", "drop").Stdout, "not there")
}

func testSlotFailoverSlot(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	if version := w.count(`SELECT current_setting('server_version_num')::int`); version < 170000 {
		t.Skipf("PostgreSQL %d has no failover slots, 17 and later have", version/10000)
	}
	w.start(w.twoProviders(), "run").ready()
	require.Equal(t, []string{"true"}, w.strings(`SELECT failover::text FROM pg_replication_slots WHERE database = current_database()`))
}

func testSlotDroppedByNotify(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	require.Equal(t, 0, w.run(nil, "migrate", "--source=notify").Code)
	env := w.twoProviders()
	w.start(env, "run").ready().stop()
	w.start(env, "run", "--source=notify").ready()
	eventually(t, func() bool { name, _, _ := w.slot(); return name == "" }, "a slot that nobody reads is dropped")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("gap", "disabled openai")
	require.Equal(t, []string{"notify"}, w.strings(`SELECT DISTINCT source FROM provwatch.drift_alerts`))
}

// testWALPublicationIsRestored has its owner publish only some rows, and
// then only some columns, while a worker runs.
func testWALPublicationIsRestored(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	if version := w.count(`SELECT current_setting('server_version_num')::int`); version < 150000 {
		t.Skipf("PostgreSQL %d has neither row filters nor column lists", version/10000)
	}
	w.login = nil // the worker is the owner, and may put it back
	p := w.start(w.twoProviders(), "run", "--resync=24h").ready()
	for i, hiding := range []string{"ai_providers WHERE (name = 'openai'), ai_provider_keys (id)", "ai_providers (id), ai_provider_keys (id)"} {
		w.exec(`ALTER PUBLICATION provwatch SET TABLE ` + hiding)
		w.waitForGaps(i + 1)
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'anthropic'`, i == 1)
		w.expectAlerts([]string{"gap", "disabled anthropic", "gap", "resolved anthropic"}[:2*i+2]...)
	}
	p.stop()
}
