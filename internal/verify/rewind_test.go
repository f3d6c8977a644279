package verify_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// rewinds returns the alerts "rewound", each as "seq certain: reason".
func rewinds(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT format('%s %s: %s', seq, certain, reason) FROM provwatch.drift_alerts WHERE kind = 'rewound' ORDER BY seq`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

func requireIntact(t *testing.T, pool *pgxpool.Pool, after string) store.ReadCounterRow {
	t.Helper()
	counter, err := store.On(pool).ReadCounter(t.Context())
	require.NoError(t, err)
	require.True(t, counter.Intact, "after %s", after)
	return counter
}

func TestEpoch(t *testing.T) {
	t.Parallel()
	t.Run("RereadAfterRestore", testEpochRereadAfterRestore)
	t.Run("LateAnswer", testEpochLateAnswer)
	t.Run("FollowedByAnother", testEpochFollowedByAnother)
	t.Run("DamagedCounter", testEpochDamagedCounter)
	t.Run("UnreadableSystemIdentifier", testEpochUnreadableSystemIdentifier)
}

// testEpochRereadAfterRestore restores what was recorded in the generation before, so that
// the next term begins the generation that the worker knows.
func testEpochRereadAfterRestore(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	takeOver(t, pool, v)
	record := func(statement string) (generation int64) {
		t.Helper()
		exec(t, pool, statement)
		require.NoError(t, v.Verify(t.Context(), resync))
		return requireIntact(t, pool, "a verification").Generation
	}
	backedUp := record(`UPDATE public.ai_providers SET enabled = false WHERE name = 'a'`)
	for _, table := range []string{"alert_counter", "drift_alerts", "drift_state"} {
		exec(t, pool, fmt.Sprintf(`CREATE TABLE public.backup_%[1]s AS TABLE provwatch.%[1]s`, table))
	}
	known := record(`UPDATE public.ai_providers SET enabled = true WHERE name = 'a'`)
	require.Equal(t, backedUp+1, known, "which is that of the next term too")

	exec(t, pool, `DELETE FROM provwatch.drift_alerts; DELETE FROM provwatch.drift_state; DELETE FROM provwatch.alert_counter`)
	for _, table := range []string{"alert_counter", "drift_alerts", "drift_state"} {
		exec(t, pool, fmt.Sprintf(`INSERT INTO provwatch.%[1]s SELECT * FROM public.backup_%[1]s`, table))
	}
	takeOver(t, pool, v)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 disabled a resync", "2 rewound  boot", "3 resolved a resync"}, alerts(t, pool))
}

// testEpochLateAnswer has the listening session see the epoch before a rewind, and answer
// after it. One worker has just started, and the other knows the epoch.
func testEpochLateAnswer(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	for i := range 2 {
		before := requireIntact(t, pool, "a start")
		exec(t, pool, `UPDATE provwatch.alert_counter SET verified_at = now()`)
		takeOver(t, pool, v)
		require.Len(t, rewinds(t, pool), i+1)
		v.AlertsSeen(before.Epoch, before.LastSeq)
		takeOver(t, pool, v)
		require.Len(t, rewinds(t, pool), i+1)
	}
}

// testEpochFollowedByAnother puts back the counter's row of an epoch that this worker has
// never seen, as a copy of the server's files does that is older than the worker. Others
// that have seen the later epoch say no more of it once that is said.
func testEpochFollowedByAnother(t *testing.T) {
	t.Parallel()
	pool, first, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, first)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false; CREATE TABLE public.backup AS TABLE provwatch.alert_counter`)
	exec(t, pool, `UPDATE provwatch.alert_counter SET verified_at = now()`)
	takeOver(t, pool, first)
	require.Len(t, rewinds(t, pool), 1)

	var running, other *verify.Verifier
	for _, v := range []**verify.Verifier{&running, &other} {
		*v = verify.New(pool, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, &counter{})
		takeOver(t, pool, *v)
	}
	require.Len(t, rewinds(t, pool), 1, "an epoch that they see for the first time is none")
	// As PostgreSQL has them in the files: the row is as a worker left it.
	exec(t, pool, `DELETE FROM provwatch.drift_alerts`)
	exec(t, pool, `UPDATE provwatch.alert_counter c SET (last_seq, generation, epoch, former_epochs, writer) =
		(SELECT last_seq, c.generation, epoch, former_epochs, pg_current_xact_id() FROM public.backup)`)
	takeOver(t, pool, running)
	found := rewinds(t, pool)
	require.Len(t, found, 1)
	require.Contains(t, found[0], "t: alerts up to seq 1 were seen in a later epoch")
	for _, v := range []*verify.Verifier{other, first, running} {
		takeOver(t, pool, v)
	}
	require.Equal(t, found, rewinds(t, pool), "it is said once")
}

// testEpochDamagedCounter has a restore between two terms. Alerts are refused while the
// counter is not intact.
func testEpochDamagedCounter(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, v)
	exec(t, pool, `UPDATE provwatch.alert_counter SET verified_at = NULL`)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.Error(t, v.Verify(t.Context(), resync))
	// Nothing that a worker writes hides it.
	require.NoError(t, store.On(pool).NoteVerified(t.Context(), currentTerm(t, pool)))
	require.Error(t, v.Verify(t.Context(), resync))
	require.Empty(t, alerts(t, pool))
	takeOver(t, pool, v)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 rewound  boot", "2 disabled a resync"}, alerts(t, pool))
}

// testEpochUnreadableSystemIdentifier has a role like that of a managed server. A system
// identifier that it cannot read is left out.
func testEpochUnreadableSystemIdentifier(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	// As on Aurora, which has no timeline either.
	exec(t, pool, `REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC; REVOKE EXECUTE ON FUNCTION pg_catalog.pg_walfile_name(pg_lsn) FROM PUBLIC`)
	role := "managed_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec(t, pool, fmt.Sprintf(`CREATE ROLE %[1]s; GRANT USAGE ON SCHEMA provwatch, public TO %[1]s; GRANT ALL ON ALL TABLES IN SCHEMA provwatch, public TO %[1]s`, role))
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), fmt.Sprintf(`DROP OWNED BY %[1]s; DROP ROLE %[1]s`, role))
		require.NoError(t, err)
	})
	config := pool.Config()
	config.AfterConnect = nil
	config.ConnConfig.RuntimeParams["role"] = role
	managed, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(managed.Close)
	system, err := store.On(managed).SystemIdentifier(t.Context())
	require.NoError(t, err)
	require.Zero(t, system)
	timeline, err := store.On(managed).Timeline(t.Context())
	require.NoError(t, err)
	require.Zero(t, timeline)
	fresh := verify.New(managed, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, &counter{})
	takeOver(t, managed, fresh)
	takeOver(t, pool, v)
	limited := verify.New(managed, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, &counter{})
	takeOver(t, managed, limited)
	noted := requireIntact(t, pool, "a term")
	require.NotZero(t, noted.SystemIdentifier, "what was noted stays")
	require.NotZero(t, noted.Timeline)
	require.Empty(t, rewinds(t, pool))
}
