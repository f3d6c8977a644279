//go:build e2e

package verify_test

import (
	"fmt"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

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

func TestRewindDetection(t *testing.T) {
	t.Parallel()
	t.Run("WorkersWrites", testRewindDetectionWorkersWrites)
	t.Run("BeginsAnEpoch", testRewindDetectionBeginsAnEpoch)
	t.Run("RestoredDump", testRewindDetectionRestoredDump)
}

// testRewindDetectionWorkersWrites writes the counter's row in each way, and has the
// server rewrite its table. None of it looks like a rewind.
func testRewindDetectionWorkersWrites(t *testing.T) {
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

// testRewindDetectionBeginsAnEpoch has the counter's row in each state in which a restore
// leaves it, or a promotion.
func testRewindDetectionBeginsAnEpoch(t *testing.T) {
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

// testRewindDetectionRestoredDump restores a dump beside the database, and another over
// it.
func testRewindDetectionRestoredDump(t *testing.T) {
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
