package verify_test

import (
	"context"
	"fmt"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/embedded"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
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

// TestNoWorkersWriteLooksLikeARewind writes the counter's row in each way, and has the
// server write its table anew.
func TestNoWorkersWriteLooksLikeARewind(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	pool := cluster.NewPool(t)
	desired := []provider.Desired{openAI("a")}
	v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
	require.False(t, requireIntact(t, pool, "the migration").IsNoted)
	takeOver(t, pool, v)
	noted := requireIntact(t, pool, "the first term")
	require.True(t, noted.IsNoted)
	require.Equal(t, noted.OidHere, noted.TableOid)
	timeline, err := store.On(pool).Timeline(t.Context())
	require.NoError(t, err)
	require.Equal(t, timeline, noted.Timeline)
	require.NotZero(t, timeline)
	system, err := store.On(pool).SystemIdentifier(t.Context())
	require.NoError(t, err)
	require.Equal(t, system, noted.SystemIdentifier)
	require.NotZero(t, system)

	require.NoError(t, v.Verify(t.Context(), resync))
	require.Len(t, alerts(t, pool), 1, "it is missing")
	requireIntact(t, pool, "an alert")
	require.NoError(t, store.On(pool).NoteVerified(t.Context(), currentTerm(t, pool)))
	requireIntact(t, pool, "the note of a verification")
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := v.Gap(t.Context(), tx, "it is gone", pubsub.SourceWAL)
		return err
	}))
	requireIntact(t, pool, "a gap")
	takeOver(t, pool, v)
	requireIntact(t, pool, "another term")
	exec(t, pool, `VACUUM FREEZE provwatch.alert_counter`)
	requireIntact(t, pool, "VACUUM FREEZE")
	exec(t, pool, `VACUUM FULL provwatch.alert_counter`)
	requireIntact(t, pool, "VACUUM FULL")
	takeOver(t, pool, v)
	for _, mode := range []string{"fast", "immediate"} {
		cluster.Restart(t, mode)
		pool.Reset()
		requireIntact(t, pool, "a restart of the server")
		takeOver(t, pool, v)
	}
	require.Equal(t, []string{"1 missing a resync", "2 gap  wal"}, alerts(t, pool))
	require.Equal(t, noted.Epoch, requireIntact(t, pool, "all").Epoch)
}

// TestARewindBeginsAnEpoch has the counter's row in each state in which a restore leaves
// it, or a promotion.
func TestARewindBeginsAnEpoch(t *testing.T) {
	t.Parallel()
	const byAWorker = `, writer = pg_current_xact_id()`
	for name, c := range map[string]struct {
		statement string
		certain   bool
		reason    string
		seq       int
	}{
		"another writer":        {`UPDATE provwatch.alert_counter SET verified_at = now()`, true, "was not written by a worker last", 4},
		"another server":        {`UPDATE provwatch.alert_counter SET system_identifier = 1` + byAWorker, false, "and it was 1", 4},
		"another table":         {`UPDATE provwatch.alert_counter SET table_oid = 1` + byAWorker, true, "was created again", 4},
		"a counter behind":      {`DELETE FROM provwatch.drift_alerts WHERE seq > 2; UPDATE provwatch.alert_counter SET last_seq = 2` + byAWorker, true, "the last alert has the seq 2, and 3 was seen before", 3},
		"the counter alone":     {`UPDATE provwatch.alert_counter SET last_seq = 2` + byAWorker, true, "and there is one of seq 3", 4},
		"a sink ahead":          {`INSERT INTO provwatch.sink_cursors (sink, stream, seq) VALUES ('webhook', 'drift', 9), ('webhook', 'audit', 9)`, true, "and a sink was sent one of seq 9", 4},
		"another timeline":      {`UPDATE provwatch.alert_counter SET timeline = timeline + 7` + byAWorker, false, "the server was promoted or recovered", 4},
		"a timeline and a sink": {`UPDATE provwatch.alert_counter SET timeline = timeline + 7` + byAWorker + `; INSERT INTO provwatch.sink_cursors (sink, stream, seq) VALUES ('nats', 'drift', 4)`, true, "a sink was sent one of seq 4", 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, v, metrics := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"), openAI("c"))
			takeOver(t, pool, v)
			before := requireIntact(t, pool, "a term")
			exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
			require.NoError(t, v.Verify(t.Context(), resync))
			require.Len(t, alerts(t, pool), 3)
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			_, err = conn.Conn().PgConn().Exec(t.Context(), c.statement).ReadAll() // each in a transaction, or all in one
			require.NoError(t, err)
			conn.Release()

			takeOver(t, pool, v)
			found := rewinds(t, pool)
			require.Len(t, found, 1)
			require.True(t, strings.HasPrefix(found[0], fmt.Sprintf("%d %s: ", c.seq, map[bool]string{true: "t", false: "f"}[c.certain])), found[0])
			require.Contains(t, found[0], c.reason)
			require.Equal(t, c.certain, metrics.seenGaps()[drift.Rewound])
			after := requireIntact(t, pool, "a rewind")
			require.NotEqual(t, before.Epoch, after.Epoch)
			require.Equal(t, value(t, pool, `SELECT epoch::text FROM provwatch.drift_alerts WHERE kind = 'rewound'`), after.Epoch.String())
			require.EqualValues(t, c.seq, after.LastSeq)
			require.LessOrEqual(t, after.LastCursor, after.LastSeq-1, "the sink is sent it")
			require.NotEqual(t, "8", value(t, pool, `SELECT coalesce(max(seq), 9)::text FROM provwatch.sink_cursors WHERE stream = 'audit'`))

			// It goes on from there, and the next term finds nothing.
			exec(t, pool, `UPDATE public.ai_providers SET enabled = true`)
			require.NoError(t, v.Verify(t.Context(), resync))
			takeOver(t, pool, v)
			require.Len(t, rewinds(t, pool), 1)
			require.EqualValues(t, c.seq+3, requireIntact(t, pool, "alerts").LastSeq)
			require.Equal(t, "3", value(t, pool, fmt.Sprintf(`SELECT count(*)::text FROM provwatch.drift_alerts WHERE kind = 'resolved' AND epoch = '%s'`, after.Epoch)))
		})
	}
}

// TestWhatIsRecordedIsReadAgainAfterARestore restores what was recorded in the generation
// before, so that the next term begins the generation that the worker knows.
func TestWhatIsRecordedIsReadAgainAfterARestore(t *testing.T) {
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

// TestALateAnswerIsNoRewind has an answer of the listening session that saw the epoch
// before a rewind, and comes after it: to a worker that has just started, and to one that
// knows the epoch.
func TestALateAnswerIsNoRewind(t *testing.T) {
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

// TestAnEpochThatWasFollowedByAnotherIsARewind puts back the counter's row of an epoch that
// this worker has never seen, as a copy of the server's files does that is older than the
// worker. Others that have seen the later epoch say no more of it once that is said.
func TestAnEpochThatWasFollowedByAnotherIsARewind(t *testing.T) {
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

// TestAnAlertIsRefusedWhileTheCounterIsNotIntact has a restore between two terms.
func TestAnAlertIsRefusedWhileTheCounterIsNotIntact(t *testing.T) {
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

// TestADumpThatIsRestoredIsARewind restores a dump beside the database, and another over
// it.
func TestADumpThatIsRestoredIsARewind(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, v)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	dump := filepath.Join(t.TempDir(), "dump")
	run := func(program string, args ...string) {
		t.Helper()
		binDir, err := embedded.FindBinDir(t.Context(), 0)
		require.NoError(t, err)
		out, err := runProgram(filepath.Join(binDir, program), args...)
		require.NoError(t, err, out)
	}
	run("pg_dump", "-Fc", "-f", dump, "-d", pool.Config().ConnString())
	exec(t, pool, `UPDATE public.ai_providers SET enabled = true`)
	require.NoError(t, v.Verify(t.Context(), resync))

	other := pgtest.NewDatabase(t)
	run("pg_restore", "--no-publications", "-d", other, dump)
	run("pg_restore", "--clean", "--no-publications", "-d", pool.Config().ConnString(), dump)
	for _, restored := range []*pgxpool.Pool{pgtest.PoolOn(t, other), pool} {
		restored.Reset()
		w := v
		if restored != pool {
			w = verify.New(restored, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, &counter{})
		}
		takeOver(t, restored, w)
		found := rewinds(t, restored)
		require.Len(t, found, 1)
		require.True(t, strings.HasPrefix(found[0], "2 t: "), found[0])
		require.Contains(t, found[0], "not written by a worker last")
		require.Contains(t, found[0], "created again")
	}
	require.Contains(t, rewinds(t, pool)[0], "the last alert has the seq 1, and 2 was seen before")
}

func runProgram(program string, args ...string) (string, error) {
	out, err := osexec.Command(program, args...).CombinedOutput()
	return string(out), err
}

// TestASystemIdentifierThatMayNotBeReadIsLeftOut has a role like that of a managed server.
func TestASystemIdentifierThatMayNotBeReadIsLeftOut(t *testing.T) {
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
