package retention

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/store"
)

func TestPrune(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"OldRows": testPruneOldRows, "SinkBehind": testPruneSinkBehind, "DeadLetters": testPruneDeadLetters,
		"LastingDrift": testPruneLastingDrift, "UnmanagedRows": testPruneUnmanagedRows, "ReplacedAboveACursor": testPruneReplacedAboveACursor, "LastRow": testPruneLastRow,
		"AboutNoProvider": testPruneAboutNoProvider, "WrongClocks": testPruneWrongClocks, "PlantedEntries": testPrunePlantedEntries,
		"DryRun": testPruneDryRun, "Pages": testPrunePages, "Audited": testPruneAudited, "SeveralAtATime": testPruneSeveralAtATime,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func testPruneOldRows(t *testing.T) {
	h := newHistory(t)
	require.Zero(t, h.prune().Rows(), "there is nothing")
	h.alert(old, "changed a", "resolved a")
	h.alert(keep-time.Hour, "missing b", "resolved b")
	h.entry(old, "a")
	h.entry(keep-time.Hour, "b", "c")
	require.Equal(t, Pruned{Alerts: 2, AlertsUpTo: 2, AuditEntries: 1, AuditUpTo: 1}, h.prune().Pruned)
	require.Equal(t, []string{"3 missing b", "4 resolved b"}, h.alerts())
	require.Equal(t, []string{"2 b", "3 c"}, h.entries())
	require.EqualValues(t, 2, h.pruned("drift"))
	require.EqualValues(t, 1, h.pruned("audit"))
	require.Zero(t, h.prune().Rows(), "once is enough")
	require.EqualValues(t, 2, h.pruned("drift"), "it stays")
}

func testPruneSinkBehind(t *testing.T) {
	h := newHistory(t)
	h.alert(old, many(3)...)
	h.entry(old, "a", "b", "c")
	h.cursor("webhook", "drift", 6)
	h.cursor("nats", "drift", 2)
	h.cursor("nats", "audit", 1)
	report := h.prune()
	require.Equal(t, Pruned{Alerts: 2, AlertsUpTo: 2, AuditEntries: 1, AuditUpTo: 1}, report.Pruned)
	require.Equal(t, []Holder{{"nats", "drift", 2}, {"nats", "audit", 1}}, report.Holders)
	require.Equal(t, []string{"3 changed p1", "4 resolved p1", "5 changed p2", "6 resolved p2"}, h.alerts())

	h.cursor("nats", "drift", 6)
	h.cursor("nats", "audit", 3)
	report = h.prune()
	require.Empty(t, report.Holders)
	require.Equal(t, []string{"6 resolved p2"}, h.alerts())
	require.Equal(t, []string{"3 c"}, h.entries())
}

func testPruneDeadLetters(t *testing.T) {
	h := newHistory(t)
	h.alert(old, "changed a", "changed b", "resolved a", "missing a", "resolved a", "resolved b", "changed c")
	h.entry(old, "a", "b", "c")
	h.letter("drift", 3)
	h.letter("audit", 2)
	h.prune()
	// A letter is sent with the provider's state: what came after it stays as well.
	require.Equal(t, []string{"3 resolved a", "4 missing a", "5 resolved a", "7 changed c"}, h.alerts())
	require.Equal(t, []string{"2 b", "3 c"}, h.entries())
	h.exec(`DELETE FROM provwatch.sink_dead_letters`)
	h.prune()
	require.Equal(t, []string{"7 changed c"}, h.alerts())
	require.Equal(t, []string{"3 c"}, h.entries())
}

func testPruneLastingDrift(t *testing.T) {
	h := newHistory(t)
	h.alert(old, "changed a", "disabled a", "missing b", "resolved b", "deleted c", "resolved d")
	h.alert(time.Hour, "changed e")
	require.Equal(t, Pruned{Alerts: 4, AlertsUpTo: 6}, h.prune().Pruned)
	require.Equal(t, []string{"2 disabled a", "5 deleted c", "7 changed e"}, h.alerts())
	require.EqualValues(t, 6, h.pruned("drift"))

	// It goes when the drift ends.
	h.alert(old, "resolved a")
	h.alert(time.Hour, "changed f")
	h.exec(`UPDATE provwatch.drift_alerts SET detected_at = now() - interval '100 days' WHERE seq = 7`)
	h.prune()
	require.Equal(t, []string{"5 deleted c", "7 changed e", "9 changed f"}, h.alerts())
}

// testPruneUnmanagedRows has drifts of unmanaged rows, and of providers, of one name: each goes
// with its own.
func testPruneUnmanagedRows(t *testing.T) {
	h := newHistory(t)
	h.rowAlert(old, "unmanaged a 1")
	h.alert(old, "changed a")
	h.rowAlert(old, "unmanaged a 2", "resolved a 2")
	h.alert(old, "resolved a")
	h.alert(time.Hour, "changed e")
	require.Equal(t, Pruned{Alerts: 4, AlertsUpTo: 5}, h.prune().Pruned)
	require.Equal(t, []string{"1 unmanaged a", "6 changed e"}, h.alerts())

	// It goes when its drift ends, under whatever name.
	h.rowAlert(old, "resolved b 1")
	h.alert(time.Hour, "changed f")
	h.exec(`UPDATE provwatch.drift_alerts SET detected_at = now() - interval '100 days' WHERE seq = 6`)
	h.prune()
	require.Equal(t, []string{"6 changed e", "8 changed f"}, h.alerts())
}

// testPruneReplacedAboveACursor has drifts that ended above the cursor of a sink: to end them
// there, the sink needs the alert that it was sent.
func testPruneReplacedAboveACursor(t *testing.T) {
	h := newHistory(t)
	h.alert(old, "changed a", "missing b", "disabled a", "resolved b", "changed c")
	h.cursor("alertmanager", "drift", 2)
	require.Zero(t, h.prune().Alerts)
	h.cursor("alertmanager", "drift", 3)
	h.prune()
	require.Equal(t, []string{"2 missing b", "3 disabled a", "4 resolved b", "5 changed c"}, h.alerts())
	h.cursor("alertmanager", "drift", 4)
	h.prune()
	require.Equal(t, []string{"3 disabled a", "5 changed c"}, h.alerts())
	firing, err := store.On(h.pool).ListFiring(t.Context(), 4, time.Now())
	require.NoError(t, err)
	require.Empty(t, firing, "no state is recorded")
}

func testPruneLastRow(t *testing.T) {
	h := newHistory(t)
	h.alert(old, "changed a", "resolved a")
	h.entry(old, "a", "b")
	h.cursor("webhook", "drift", 2)
	h.cursor("webhook", "audit", 2)
	h.prune()
	require.Equal(t, []string{"2 resolved a"}, h.alerts())
	require.Equal(t, []string{"2 b"}, h.entries())
	counter, err := store.On(h.pool).ReadCounter(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, counter.LastRow)
	require.True(t, counter.Intact, "the counter's row is as it was")
}

// testPruneAboutNoProvider keeps the last gap and the last rewind, of which metrics show when they
// were.
func testPruneAboutNoProvider(t *testing.T) {
	h := newHistory(t)
	h.alert(old, "gap ", "gap ", "rewound ", "rewound ", "rewound ", "gap ", "changed a")
	h.exec(`UPDATE provwatch.drift_alerts SET certain = seq = 4 WHERE kind = 'rewound'`)
	h.prune()
	require.Equal(t, []string{"4 rewound", "5 rewound", "6 gap", "7 changed a"}, h.alerts())
	latest, err := store.On(h.pool).LatestGaps(t.Context())
	require.NoError(t, err)
	require.Len(t, latest, 2)
}

// testPruneWrongClocks has rows from a clock that was ahead and from a clock that was behind.
func testPruneWrongClocks(t *testing.T) {
	h := newHistory(t)
	h.alert(old, "resolved a")
	h.alert(-30*day, "resolved b") // from the future
	h.alert(old, "resolved c")
	h.alert(-30*day, "resolved d")
	h.alert(time.Hour, "resolved e")
	h.alert(old, "resolved f") // after a young one
	h.alert(time.Hour, "resolved g")
	h.prune()
	require.Equal(t, []string{"4 resolved d", "5 resolved e", "6 resolved f", "7 resolved g"}, h.alerts())

	// A program whose clock is ahead prunes no more than the server's clock allows.
	row, err := store.On(h.pool).PruneAlerts(t.Context(), store.PruneAlertsParams{
		Now: time.Now().Add(1000 * day), KeepSeconds: keep.Seconds(), MaxRows: 100,
	})
	require.NoError(t, err)
	require.Zero(t, row.Pruned)
	// And one whose clock is behind prunes less.
	h.exec(`UPDATE provwatch.drift_alerts SET detected_at = now() - interval '100 days'`)
	row, err = store.On(h.pool).PruneAlerts(t.Context(), store.PruneAlertsParams{
		Now: time.Now().Add(-20 * day), KeepSeconds: keep.Seconds(), MaxRows: 100,
	})
	require.NoError(t, err)
	require.Zero(t, row.Pruned)
	require.EqualValues(t, 3, h.prune().Alerts)
}

// testPrunePlantedEntries has rows that are no entries: above the counter, and of the seq of
// another. An entry counts by when it was delivered: the role that stages it chooses the rest.
func testPrunePlantedEntries(t *testing.T) {
	h := newHistory(t)
	h.entry(old, "a", "b")
	h.exec(`INSERT INTO provwatch.audit_log (id, seq, occurred_at, actor, action, provider, details, delivered_at)
		SELECT gen_random_uuid(), seq, now(), 'x', 'y', 'planted', '{}', now() - interval '100 days' FROM (VALUES (1), (2), (9)) AS rows (seq)`)
	h.entry(time.Hour, "backdated")
	h.exec(`UPDATE provwatch.audit_log SET occurred_at = now() - interval '100 days' WHERE provider = 'backdated'`)
	h.prune()
	require.Equal(t, []string{"3 backdated", "9 planted"}, h.entries())
}

func testPruneDryRun(t *testing.T) {
	h := newHistory(t)
	h.alert(old, many(4)...)
	h.alert(old, "changed q")
	h.entry(old, "a", "b", "c")
	h.acceptance("r", "lapsed", old)
	before := []any{h.alerts(), h.entries(), h.acceptances()}
	would, err := Prune(t.Context(), h.pool, Request{OlderThan: keep, DryRun: true, Actor: "operator:test"})
	require.NoError(t, err)
	require.Equal(t, before, []any{h.alerts(), h.entries(), h.acceptances()})
	require.Zero(t, h.pruned("drift"))
	staged, _ := h.staged()
	require.Empty(t, staged)
	require.Equal(t, Pruned{Alerts: 8, AlertsUpTo: 8, AuditEntries: 2, AuditUpTo: 2, Acceptances: 1}, would.Pruned)
	require.Equal(t, would, h.prune())
}

// testPrunePages goes through the tables a few rows at a time.
func testPrunePages(t *testing.T) {
	h := newHistory(t)
	h.alert(old, "changed stays", "missing stays-too")
	h.alert(old, many(10)...)
	h.alert(old, "disabled last")
	h.entry(old, "a", "b", "c", "d", "e")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		h.acceptance(name, "lapsed", old)
	}
	r := round{pool: h.pool, keep: keep, pageSize: 2}
	var all Pruned
	steps := 0
	for more := true; more; steps++ {
		pruned, again, err := r.step(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, pruned.Alerts, int64(2))
		require.LessOrEqual(t, pruned.AuditEntries, int64(2))
		all.add(pruned)
		more = again
	}
	require.Equal(t, Pruned{Alerts: 20, AlertsUpTo: 22, AuditEntries: 4, AuditUpTo: 4, Acceptances: 5}, all)
	require.Equal(t, 12, steps, "eleven pages of alerts, and one that is empty")
	require.Equal(t, []string{"1 changed stays", "2 missing stays-too", "23 disabled last"}, h.alerts())
}

// testPruneAudited has the audit entry in the transaction that deletes.
func testPruneAudited(t *testing.T) {
	h := newHistory(t)
	h.alert(old, many(2)...)
	h.alert(time.Hour, "changed a")
	h.prune()
	staged, details := h.staged()
	require.Equal(t, []string{"operator:test history.prune *"}, staged)
	require.Equal(t, map[string]any{"pruned": map[string]any{
		"older_than_seconds": keep.Seconds(), "alerts": 4.0, "alerts_up_to": 4.0, "audit_entries": 0.0, "audit_up_to": 0.0, "acceptances": 0.0, "silences": 0.0,
	}}, details)
	h.prune()
	staged, _ = h.staged()
	require.Len(t, staged, 1, "nothing was deleted")

	// What is rolled back is not deleted, and not audited.
	h.alert(old, "resolved a")
	h.alert(time.Hour, "changed b")
	h.exec(`UPDATE provwatch.drift_alerts SET detected_at = now() - interval '100 days' WHERE seq = 5`)
	h.exec(`ALTER TABLE provwatch.audit_outbox ADD CHECK (action <> 'history.prune') NOT VALID`)
	_, err := Prune(t.Context(), h.pool, Request{OlderThan: keep, Actor: "operator:test"})
	require.ErrorContains(t, err, "prune, after 0 rows")
	require.Len(t, h.alerts(), 3)
	require.EqualValues(t, 4, h.pruned("drift"))
}

// testPruneSeveralAtATime has pruners beside each other, one of which is killed in a transaction.
func testPruneSeveralAtATime(t *testing.T) {
	h := newHistory(t)
	h.alert(old, many(300)...)
	h.alert(old, "changed last")
	killed, err := h.pool.Begin(t.Context())
	require.NoError(t, err)
	row, err := store.On(killed).PruneAlerts(t.Context(), store.PruneAlertsParams{Now: time.Now(), KeepSeconds: keep.Seconds(), MaxRows: 50})
	require.NoError(t, err)
	require.EqualValues(t, 50, row.Pruned)
	require.NoError(t, killed.Conn().Close(context.Background()))
	killed.Rollback(context.Background()) //nolint:errcheck // its connection is closed
	reports := make(chan Report, 4)
	for range cap(reports) {
		go func() {
			r := round{pool: h.pool, keep: keep, pageSize: 40}
			var all Pruned
			for more := true; more; {
				var pruned Pruned
				pruned, more, _ = r.step(context.Background()) // it is repeated where it waited for another
				all.add(pruned)
			}
			reports <- Report{Pruned: all}
		}()
	}
	var sum int64
	for range cap(reports) {
		sum += (<-reports).Alerts
	}
	require.EqualValues(t, 600, sum, "each row counts once")
	require.Equal(t, []string{"601 changed last"}, h.alerts())
	require.EqualValues(t, 600, h.pruned("drift"))
}

// acceptance stores an acceptance of a drift of a provider. What is recorded of the provider
// makes that it "holds", or that it does not: "another environment", "unnamed". An acceptance
// that has "lapsed" was first seen not to hold that long ago.
func (h *history) acceptance(name, state string, ago time.Duration) {
	h.t.Helper()
	h.exec(`INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by, accepted_at)
		VALUES ($1, 'changed', 'e', 'd', 'operator:test', now() - interval '1 year')`, name)
	switch state {
	case "holds", "another environment":
		h.exec(`INSERT INTO provwatch.drift_state (provider, provider_id, kind, env_hash, db_hash) VALUES ($1, $2, 'in_sync', $3, 'd')`,
			name, uuid.New(), map[bool]string{true: "e", false: "other"}[state == "holds"])
	case "lapsed":
		h.exec(`UPDATE provwatch.accepted_drift SET lapsed_at = now() - make_interval(secs => $2) WHERE provider = $1`, name, ago.Seconds())
	}
}

// acceptances returns the acceptances that are left, the lapsed ones with a mark.
func (h *history) acceptances() []string {
	h.t.Helper()
	return h.list(`SELECT provider || CASE WHEN lapsed_at IS NULL THEN '' ELSE ' lapsed' END FROM provwatch.accepted_drift ORDER BY provider`)
}

// TestPruneAcceptances has acceptances of which some hold. An acceptance is deleted only when
// it has lapsed for the time that rows are kept.
func TestPruneAcceptances(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.acceptance("a", "holds", 0)
	h.acceptance("b", "another environment", 0)
	h.acceptance("c", "unnamed", 0)
	h.acceptance("d", "lapsed", old)
	h.acceptance("e", "lapsed", keep-time.Hour)
	require.Equal(t, Pruned{Acceptances: 1}, h.prune().Pruned)
	require.Equal(t, []string{"a", "b lapsed", "c lapsed", "e lapsed"}, h.acceptances())

	// The environment of b is back, and e is accepted again.
	h.exec(`UPDATE provwatch.drift_state SET env_hash = 'e' WHERE provider = 'b'`)
	h.exec(`UPDATE provwatch.accepted_drift SET lapsed_at = now() - interval '100 days' WHERE lapsed_at IS NOT NULL`)
	require.NoError(t, pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
		kept, err := store.On(tx).ListKeptAcceptances(t.Context(), "", time.Now(), keep, 10)
		require.NoError(t, err)
		require.Len(t, kept, 4)
		return store.On(tx).AcceptDrift(t.Context(), "e", kept[3].Acceptance, "operator:test", "")
	}))
	require.Equal(t, Pruned{Acceptances: 1}, h.prune().Pruned)
	require.Equal(t, []string{"a", "b", "e lapsed"}, h.acceptances())

	// The environment of e comes back after the acceptances are read, and the leader records that.
	h.exec(`UPDATE provwatch.accepted_drift SET lapsed_at = now() - interval '100 days' WHERE lapsed_at IS NOT NULL`)
	require.NoError(t, pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
		kept, err := store.On(tx).ListKeptAcceptances(t.Context(), "", time.Now(), keep, 10)
		require.NoError(t, err)
		require.Len(t, kept, 3)
		require.True(t, kept[2].IsOld)
		h.exec(`INSERT INTO provwatch.drift_state (provider, kind, env_hash, db_hash) VALUES ('e', 'in_sync', 'e', 'd')`)
		pruned, err := store.On(tx).PruneAcceptances(t.Context(), []store.NamedAcceptance{kept[2].NamedAcceptance})
		require.Zero(t, pruned)
		return err
	}))
	require.Zero(t, h.prune().Acceptances)
	require.Equal(t, []string{"a", "b", "e"}, h.acceptances())
	h.exec(`UPDATE provwatch.accepted_drift SET expires_at = now() - interval '1 day', lapsed_at = now() - interval '100 days' WHERE provider = 'e'`)
	require.EqualValues(t, 1, h.prune().Acceptances, "one that has expired holds for nothing")
}

// TestPruneSilences has silences that last, ended lately and ended long ago, by the time or by an
// operator, and prunes them a few at a time.
func TestPruneSilences(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.alert(time.Hour, "changed a")
	h.exec(`UPDATE provwatch.drift_alerts SET silenced = true`)
	for name, ends := range map[string]time.Duration{"lasts": time.Hour, "lately": time.Hour - keep, "one": -old, "two": -old, "three": -old} {
		h.exec(`INSERT INTO provwatch.silences (provider, author, reason, begins_at, ends_at)
			VALUES ($1, 'operator:test', '', now() - interval '1 year', now() + make_interval(secs => $2))`, name, ends.Seconds())
	}
	left := func() []string {
		t.Helper()
		return h.list(`SELECT provider FROM provwatch.silences ORDER BY provider`)
	}
	would, err := Prune(t.Context(), h.pool, Request{OlderThan: keep, DryRun: true, Actor: "operator:test"})
	require.NoError(t, err)
	require.Equal(t, Pruned{Silences: 3}, would.Pruned)
	require.Len(t, left(), 5)

	r := round{pool: h.pool, keep: keep, pageSize: 2}
	var all Pruned
	for more := true; more; {
		var pruned Pruned
		pruned, more, err = r.step(t.Context())
		require.NoError(t, err)
		all.add(pruned)
	}
	require.Equal(t, Pruned{Silences: 3}, all)
	require.Equal(t, []string{"lasts", "lately"}, left())
	require.Equal(t, []string{"true"}, h.list(`SELECT silenced::text FROM provwatch.drift_alerts`))
}
