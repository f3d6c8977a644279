package verify_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// TestHeldUnmanaged has alerts of unmanaged rows that are silenced, or held until the drift has
// lasted.
func TestHeldUnmanaged(t *testing.T) {
	t.Parallel()
	t.Run("Silenced", testHeldUnmanagedSilenced)
	t.Run("OutlivedWhileNoWorkerRuns", testHeldUnmanagedOutlivedWhileNoWorkerRuns)
	t.Run("Lasts", testHeldUnmanagedLasts)
	t.Run("EndsBefore", testHeldUnmanagedEndsBefore)
	t.Run("AcceptanceEnds", testHeldUnmanagedAcceptanceEnds)
	t.Run("Commits", testHeldUnmanagedCommits)
	t.Run("ClockSetBack", testHeldUnmanagedClockSetBack)
}

// pendingRows returns the unmanaged rows whose drift is pending, each with the source that has
// shown it.
func pendingRows(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return value(t, pool, `SELECT coalesce(string_agg(provider || ' ' || source, ', ' ORDER BY provider), '') FROM provwatch.pending_rows`)
}

// rowsLaterBy makes all pending drifts of rows have begun earlier.
func rowsLaterBy(t *testing.T, pool *pgxpool.Pool, minutes int) {
	t.Helper()
	exec(t, pool, `UPDATE provwatch.pending_rows SET since = since - make_interval(mins => $1)`, minutes)
}

// testHeldUnmanagedSilenced silences a row by its name before it is there, and later all: while its
// drift lasts, the name is that of its alert.
func testHeldUnmanagedSilenced(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			desired := []provider.Desired{openAI("a")}
			pool, v, _ := looking(t, desired)
			takeOver(t, pool, v)
			var want []string
			var id uuid.UUID
			step := func(query string, more ...string) {
				t.Helper()
				exec(t, pool, query)
				require.NoError(t, v.Verify(t.Context(), way(id)))
				require.NoError(t, v.Verify(t.Context(), resync))
				want = append(want, more...)
				require.Equal(t, want, silenced(t, pool))
			}
			silence(t, pool, "rogue")
			id = insert(t, pool, "rogue")
			step(`SELECT`, "1 unmanaged rogue silenced")
			step(`UPDATE public.ai_providers SET name = 'renamed' WHERE name = 'rogue'`)
			const recorded = `SELECT concat_ws(' ', alert_seq, silenced_seq, observed_at) FROM provwatch.unmanaged_rows`
			since := value(t, pool, `SELECT observed_at::text FROM provwatch.unmanaged_rows`)
			require.Equal(t, "1 1 "+since, value(t, pool, recorded))
			endSilences(t, pool)
			step(`SELECT`, "2 unmanaged rogue repeats 1")
			require.Equal(t, "2 "+since, value(t, pool, recorded), "it drifts since then, and sinks know of it")
			require.Equal(t, "t silence database "+id.String(), value(t, pool, `SELECT concat_ws(' ', r.unmanaged AND r.fields = a.fields AND r.db_hash = a.db_hash, r.source, r.moved, r.provider_id)
				FROM provwatch.drift_alerts r JOIN provwatch.drift_alerts a ON a.seq = r.repeats`))
			takeOver(t, pool, v)
			step(`SELECT`)
			silence(t, pool, "*")
			step(`UPDATE public.ai_providers SET enabled = false WHERE name = 'renamed'`, "3 resolved rogue ends 2")
			step(`UPDATE public.ai_providers SET enabled = true WHERE name = 'renamed'`, "4 unmanaged renamed silenced")
			step(`DELETE FROM public.ai_providers WHERE name = 'renamed'`, "5 resolved renamed silenced ends 4")
			endSilences(t, pool)
			step(`SELECT`)

			// A provider and a row that drift under one name: each goes by its own alert.
			silence(t, pool, "a")
			exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/' WHERE name = 'a'`)
			v.SetDesired(nil)
			require.NoError(t, v.Verify(t.Context(), reload))
			exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'a'`)
			step(`SELECT`)
			id = idOf(t, pool, "a")
			step(`UPDATE public.ai_providers SET enabled = true WHERE name = 'a'`, "6 unmanaged a silenced")
			exec(t, pool, `UPDATE public.ai_providers SET name = 'x' WHERE name = 'a'`)
			v.SetDesired(desired)
			step(`SELECT`, "7 missing a silenced")
			endSilences(t, pool)
			step(`SELECT`, "8 unmanaged a repeats 6", "9 missing a repeats 7")
			step(`DELETE FROM public.ai_providers WHERE name = 'x'`, "10 resolved a ends 8")
		})
	}
}

// testHeldUnmanagedOutlivedWhileNoWorkerRuns has a silence of a row end while no worker runs. The
// next start alerts the row once more, and the start after that does not.
func testHeldUnmanagedOutlivedWhileNoWorkerRuns(t *testing.T) {
	t.Parallel()
	desired := []provider.Desired{openAI("a")}
	pool, v, _ := looking(t, desired)
	silence(t, pool, "*")
	insert(t, pool, "rogue")
	insert(t, pool, "ends")
	require.NoError(t, v.Verify(t.Context(), resync))
	endSilences(t, pool)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'ends'`)
	for range 2 {
		next := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
		next.LookForUnmanaged(drift.AlertUnmanaged)
		takeOver(t, pool, next)
		require.NoError(t, next.Verify(t.Context(), boot))
		require.Equal(t, []string{
			"1 unmanaged ends silenced", "2 unmanaged rogue silenced", "3 resolved ends silenced ends 1", "4 unmanaged rogue repeats 2",
		}, silenced(t, pool))
	}
}

// testHeldUnmanagedLasts alerts a row once its drift has lasted. Neither other values, another
// name nor another leader restarts its time.
func testHeldUnmanagedLasts(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			desired := []provider.Desired{openAI("a")}
			pool, v, metrics := looking(t, desired)
			v.AlertAfter(time.Hour)
			id := insert(t, pool, "rogue")
			source := string(way(id).Source)
			verified := func(query string) {
				t.Helper()
				exec(t, pool, query)
				for range 2 {
					require.NoError(t, v.Verify(t.Context(), way(id)))
				}
			}
			verified(`SELECT`)
			require.Equal(t, "rogue "+source, pendingRows(t, pool))
			require.Empty(t, alerts(t, pool))
			require.Empty(t, kinds(t, pool))
			_, measured := metrics.seenPassed()
			require.Equal(t, map[string]drift.Kind{"rogue": drift.Unmanaged}, measured)
			require.Empty(t, metrics.drifting)
			require.Equal(t, 1, metrics.unmanaged)

			rowsLaterBy(t, pool, 59)
			const since = `SELECT since::text FROM provwatch.pending_rows`
			began := value(t, pool, since)
			verified(`UPDATE public.ai_providers SET base_url = 'https://2/', name = 'renamed' WHERE name = 'rogue'`)
			v = verify.New(pool, desired, drift.IgnoreCredentials, quiet, metrics)
			v.LookForUnmanaged(drift.AlertUnmanaged)
			v.AlertAfter(time.Hour)
			takeOver(t, pool, v)
			require.NoError(t, v.Verify(t.Context(), boot))
			verified(`SELECT`)
			require.Equal(t, began, value(t, pool, since))
			require.Equal(t, "renamed "+source, pendingRows(t, pool))
			require.Equal(t, 1, metrics.unmanaged)
			require.Empty(t, alerts(t, pool))
			rowsLaterBy(t, pool, 1)
			verified(`SELECT`)
			require.Equal(t, []string{"1 unmanaged renamed " + source}, alerts(t, pool), "with the source that has shown its values")
			require.JSONEq(t, `[{"name": "type", "env": "", "db": "openai"}, {"name": "base_url", "env": "", "db": "https://2/"}]`,
				value(t, pool, `SELECT fields::text FROM provwatch.drift_alerts`))
			require.Empty(t, pendingRows(t, pool))
			require.Equal(t, "renamed unmanaged", kinds(t, pool))
			require.Equal(t, map[drift.Kind]int{drift.Unmanaged: 1}, metrics.drifting)
			passed, measured := metrics.seenPassed()
			require.Zero(t, passed)
			require.Empty(t, measured)
			verified(`DELETE FROM public.ai_providers WHERE name = 'renamed'`)
			require.Equal(t, []string{"1 unmanaged renamed database", "2 resolved renamed reverted ends 1"}, causes(t, pool))
			require.Zero(t, metrics.unmanaged)
		})
	}
}

// testHeldUnmanagedEndsBefore ends drifts of rows before they have lasted, in each way.
func testHeldUnmanagedEndsBefore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		query string
		mode  drift.UnmanagedMode // of the next worker, empty for none
		named []string            // by the environment from then on, besides a
		kinds string
	}{
		"disabled": {query: `UPDATE public.ai_providers SET enabled = false WHERE name = 'rogue'`},
		"deleted":  {query: `UPDATE public.ai_providers SET deleted = true WHERE name = 'rogue'`},
		"gone":     {query: `DELETE FROM public.ai_providers WHERE name = 'rogue'`},
		"named":    {query: `SELECT`, named: []string{"rogue"}},
		"ignored":  {query: `SELECT`, mode: drift.IgnoreUnmanaged},
		"warned":   {query: `SELECT`, mode: drift.WarnUnmanaged},
		"accepted": {query: `ACCEPT`, kinds: "rogue in_sync"},
	} {
		for way, request := range ways {
			t.Run(name+" by "+way, func(t *testing.T) {
				t.Parallel()
				desired := []provider.Desired{openAI("a")}
				pool, v, metrics := looking(t, desired)
				v.AlertAfter(time.Hour)
				id := insert(t, pool, "rogue")
				require.NoError(t, v.Verify(t.Context(), request(id)))
				require.NotEmpty(t, pendingRows(t, pool))
				if c.query == `ACCEPT` {
					_, err := reconcile.Resolve(t.Context(), pool, nil, nil, reconcile.Request{Side: reconcile.Database, Unmanaged: []string{"rogue"}, Named: []string{"a"}})
					require.NoError(t, err)
				} else {
					exec(t, pool, c.query)
				}
				for _, name := range c.named {
					desired = append(desired, openAI(name))
				}
				v.SetDesired(desired)
				if c.mode != "" {
					v = verify.New(pool, desired, drift.IgnoreCredentials, quiet, metrics)
					v.LookForUnmanaged(c.mode)
					v.AlertAfter(time.Hour)
					require.NoError(t, v.Verify(t.Context(), boot))
				}
				require.NoError(t, v.Verify(t.Context(), request(id)))
				require.Empty(t, pendingRows(t, pool))
				require.Empty(t, alerts(t, pool))
				require.Equal(t, c.kinds, kinds(t, pool))
				passed, measured := metrics.seenPassed()
				require.Equal(t, 1, passed)
				require.Empty(t, measured)
				require.NoError(t, v.Verify(t.Context(), resync))
				require.Empty(t, alerts(t, pool))
			})
		}
	}
}

// testHeldUnmanagedAcceptanceEnds has an accepted row get other values: it drifts from then on.
func testHeldUnmanagedAcceptanceEnds(t *testing.T) {
	t.Parallel()
	pool, v, _ := looking(t, []provider.Desired{openAI("a")})
	id := insert(t, pool, "rogue")
	require.NoError(t, v.Verify(t.Context(), resync))
	v.AlertAfter(time.Hour)
	_, err := reconcile.Resolve(t.Context(), pool, nil, nil, reconcile.Request{Side: reconcile.Database, Unmanaged: []string{"rogue"}, Named: []string{"a"}})
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context(), hint(id)))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/' WHERE name = 'rogue'`)
	for range 2 {
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	require.Equal(t, "rogue in_sync", kinds(t, pool), "what is recorded stands")
	require.Equal(t, "rogue resync", pendingRows(t, pool))
	require.Equal(t, "0", value(t, pool, `SELECT count(*)::text FROM provwatch.accepted_rows`), "it is withdrawn")
	rowsLaterBy(t, pool, 60)
	require.NoError(t, v.Verify(t.Context(), hint(id)))
	require.Equal(t, []string{"1 unmanaged rogue database", "2 resolved rogue accepted ends 1", "3 unmanaged rogue database"}, causes(t, pool))
	require.Equal(t, "rogue unmanaged", kinds(t, pool))
}

// testHeldUnmanagedCommits has the WAL show drifts of a row that begin and end at the times of
// their commits.
func testHeldUnmanagedCommits(t *testing.T) {
	t.Parallel()
	pool, v, metrics := looking(t, []provider.Desired{openAI("a")})
	v.AlertAfter(time.Hour)
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	begun, id := time.Now().Add(-5*time.Hour).Truncate(time.Second), uuid.New()
	commits := 0
	commit := func(minutes int) *pubsub.Commit {
		commits++
		return &pubsub.Commit{LSN: fmt.Sprintf("0/%d", commits), XID: int64(commits), CommittedAt: begun.Add(time.Duration(minutes) * time.Minute)}
	}
	row := func(enabled bool, minutes int) verify.Observed {
		row := &provider.Row{ID: id, Name: "rogue", Type: provider.OpenAI, BaseURL: "https://h/", Enabled: enabled}
		return verify.Observed{Observation: drift.ObserveRow(hasher, row, false), Commit: commit(minutes)}
	}
	record := func(observed ...verify.Observed) {
		t.Helper()
		var recorded verify.Recorded
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
			recorded, err = v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
			return err
		}))
		v.Announce(t.Context(), recorded)
	}
	commitsOf := func() []string {
		t.Helper()
		rows, err := pool.Query(t.Context(), `SELECT concat_ws(' ', seq, kind, provider, source, xid, extract(epoch FROM committed_at - $1::timestamptz)::int / 60) FROM provwatch.drift_alerts ORDER BY seq`, begun)
		require.NoError(t, err)
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return list
	}
	// One ends before it has lasted, and the next one after, in one transaction of ours.
	record(row(true, 0), row(false, 59), row(true, 60), row(false, 120))
	want := []string{"1 unmanaged rogue wal 3 60", "2 resolved rogue wal 4 120"}
	require.Equal(t, want, commitsOf())
	passed, _ := metrics.seenPassed()
	require.Equal(t, 1, passed)
	require.Zero(t, metrics.unmanaged)

	// The table is truncated after it has lasted, and before.
	record(row(true, 130))
	require.Equal(t, "rogue wal", pendingRows(t, pool))
	require.Equal(t, 1, metrics.unmanaged)
	record(verify.Observed{AllGone: true, Commit: commit(190)})
	want = append(want, "3 unmanaged rogue wal 5 130", "4 resolved rogue wal 6 190")
	require.Equal(t, want, commitsOf())
	require.Zero(t, metrics.unmanaged)
	record(row(true, 200), verify.Observed{AllGone: true, Commit: commit(259)})
	require.Equal(t, want, commitsOf())
	require.Empty(t, pendingRows(t, pool))
	require.Empty(t, kinds(t, pool))
}

// testHeldUnmanagedClockSetBack sets the database's clock back while the drift of a row is pending:
// it lasts from then on.
func testHeldUnmanagedClockSetBack(t *testing.T) {
	t.Parallel()
	pool, v, _ := looking(t, []provider.Desired{openAI("a")})
	v.AlertAfter(time.Hour)
	insert(t, pool, "rogue")
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, "rogue resync", pendingRows(t, pool))
	rowsLaterBy(t, pool, -24*60)
	queue := verify.NewQueue()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { v.Run(ctx, queue, time.Second, host{}) })
	running.Go(func() { v.FollowPending(ctx, queue) })
	defer running.Wait()
	defer cancel()
	waittest.Until(t, func() bool {
		return value(t, pool, `SELECT (since <= now())::text FROM provwatch.pending_rows`) == "true"
	}, "it lasts from now on")
	require.Empty(t, alerts(t, pool))
	rowsLaterBy(t, pool, 60)
	queue.Add(resync)
	waittest.Until(t, func() bool { return len(alerts(t, pool)) == 1 }, "it is alerted once it has lasted")
	require.Equal(t, []string{"1 unmanaged rogue resync"}, alerts(t, pool))
}
