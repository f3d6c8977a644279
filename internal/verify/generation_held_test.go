package verify_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/rollout"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// TestOlderEnvironmentHeld has workers of both environments, with alerts that are silenced, or held
// until the drift has lasted.
func TestOlderEnvironmentHeld(t *testing.T) {
	t.Parallel()
	t.Run("Silence", testOlderEnvironmentHeldSilence)
	t.Run("SilenceFollowed", testOlderEnvironmentHeldSilenceFollowed)
	t.Run("SilenceRollback", testOlderEnvironmentHeldSilenceRollback)
	t.Run("Pending", testOlderEnvironmentHeldPending)
	t.Run("PendingRollback", testOlderEnvironmentHeldPendingRollback)
}

// joinHolding is [join] of a worker that looks for unmanaged rows, and alerts a drift after a time.
func joinHolding(pool *pgxpool.Pool, desired []provider.Desired, after time.Duration) *joined {
	j := join(pool, rollout.Seeds, desired)
	j.LookForUnmanaged(drift.AlertUnmanaged)
	j.AlertAfter(after)
	return j
}

// lead has a worker take over and verify everything.
func (j *joined) lead(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	takeOver(t, pool, j.Verifier)
	require.NoError(t, j.Verify(t.Context(), boot))
}

// requireOlder has the worker verify and record in all ways that either source has, and requires
// that it is the older one each time.
func (j *joined) requireOlder(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	b := idOf(t, pool, "b")
	commit := verify.Observed{
		Observation: drift.Observation{Provider: "b", ProviderID: b, Kind: drift.InSync},
		Commit:      &pubsub.Commit{LSN: "0/10", XID: 7, CommittedAt: time.Now().Add(24 * time.Hour)},
	}
	for way, do := range []func() error{
		func() error { return j.Verify(t.Context(), resync) },
		func() error { return j.Verify(t.Context(), hint(b)) },
		func() error { return j.End(t.Context(), pubsub.SourceResync, verify.Begun{}) },
		func() error {
			return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
				_, err := j.Record(t.Context(), tx, []verify.Observed{commit}, pubsub.SourceWAL)
				return err
			})
		},
	} {
		err := do()
		require.True(t, rollout.IsOlder(err), "%d: %v", way, err)
	}
}

// allEnded has all workers end. They were seen an hour ago.
func allEnded(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	exec(t, pool, `UPDATE provwatch.workers SET seen_at = seen_at - interval '1 hour'`)
}

// testOlderEnvironmentHeldSilence has a silence, which was made before the update, end while the
// former worker is the older one. The newer one alerts the drift that lasts, once.
func testOlderEnvironmentHeldSilence(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	silence(t, pool, "b")
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'b'`)
	require.NoError(t, former.Verify(t.Context(), resync))
	newer := applyNewer(t, pool)
	endSilences(t, pool)
	// What the WAL's source does, before it knows of the newer environment.
	require.True(t, rollout.IsOlder(former.End(t.Context(), pubsub.SourceResync, verify.Begun{})))
	former.requireOlder(t, pool)
	require.Equal(t, []string{"1 disabled b silenced"}, silenced(t, pool))

	want := []string{"1 disabled b silenced", "2 disabled b repeats 1"}
	newer.lead(t, pool)
	require.Equal(t, want, silenced(t, pool))
	former.requireOlder(t, pool)
	require.NoError(t, newer.Verify(t.Context(), resync))
	require.Equal(t, want, silenced(t, pool))
}

// testOlderEnvironmentHeldSilenceFollowed has the former worker still follow silences when one ends:
// the verification that it requests ends its work.
func testOlderEnvironmentHeldSilenceFollowed(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	silence(t, pool, "b")
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'b'`)
	require.NoError(t, former.Verify(t.Context(), resync))
	applyNewer(t, pool)
	queue, ended := verify.NewQueue(), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		defer close(ended)
		former.Run(ctx, queue, time.Second, host{})
	})
	running.Go(func() { former.FollowSilences(ctx, queue) })
	defer running.Wait()
	defer cancel()
	endSilences(t, pool)
	former.SilencesChanged()
	waittest.Closed(t, ended, "the former worker records no more")
	require.Equal(t, []string{"1 disabled b silenced"}, silenced(t, pool))
}

// testOlderEnvironmentHeldSilenceRollback ends the newer worker, and then the silence: the former
// one alerts once more what it names, after the rollback.
func testOlderEnvironmentHeldSilenceRollback(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	silence(t, pool, "*")
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'b'`)
	require.NoError(t, former.Verify(t.Context(), resync))
	newer := join(pool, rollout.Seeds, append([]provider.Desired{at("c", "https://c/")}, newerEnvironment...))
	newer.lead(t, pool)
	want := []string{"1 disabled b silenced", "2 changed a silenced", "3 missing c silenced"}
	require.Equal(t, want, silenced(t, pool))
	endSilences(t, pool)
	former.requireOlder(t, pool)
	require.Equal(t, want, silenced(t, pool))

	allEnded(t, pool)
	for range 2 {
		restarted := join(pool, rollout.Seeds, formerEnvironment)
		restarted.lead(t, pool)
		require.Equal(t, append(want, "4 resolved a silenced ends 2", "5 resolved c silenced ends 3", "6 disabled b repeats 1"), silenced(t, pool))
	}
	newer.requireOlder(t, pool)
}

// testOlderEnvironmentHeldPending has the newer worker hold back a drift that began before the
// update. A former one, which would alert at once, does not.
func testOlderEnvironmentHeldPending(t *testing.T) {
	t.Parallel()
	pool, _ := rollingUpdate(t)
	former := joinHolding(pool, formerEnvironment, time.Hour)
	former.lead(t, pool)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'b'`)
	rogue := insert(t, pool, "rogue")
	require.NoError(t, former.Verify(t.Context(), resync))
	const since = `SELECT concat_ws(' ', (SELECT since FROM provwatch.pending_drifts), (SELECT since FROM provwatch.pending_rows))`
	laterBy(t, pool, 59)
	rowsLaterBy(t, pool, 59)
	began := value(t, pool, since)

	newer := joinHolding(pool, newerEnvironment, time.Hour)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return applyIn(t, tx, newer) }))
	hasty := joinHolding(pool, formerEnvironment, 0)
	older := func() {
		t.Helper()
		for _, j := range []*joined{former, hasty} {
			j.requireOlder(t, pool)
			require.True(t, rollout.IsOlder(j.Verify(t.Context(), hint(rogue))))
		}
		require.Empty(t, alerts(t, pool))
		require.Equal(t, []string{"disabled b resync"}, pending(t, pool))
		require.Equal(t, "rogue resync", pendingRows(t, pool))
		require.Equal(t, began, value(t, pool, since))
	}
	older()
	newer.lead(t, pool)
	older()
	laterBy(t, pool, 1)
	rowsLaterBy(t, pool, 1)
	began = value(t, pool, since)
	older()
	require.NoError(t, newer.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 unmanaged rogue resync", "2 disabled b resync"}, alerts(t, pool))
}

// testOlderEnvironmentHeldPendingRollback ends the newer worker while drifts are pending. The former
// one goes on with their times after the rollback. What its environment does not differ from ends.
func testOlderEnvironmentHeldPendingRollback(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a       string // the base URL of the row of a
		stays   string // pending, besides b
		pending []string
		alerts  []string
	}{
		"RowOfNeither": {"https://other/", "a", []string{"changed a boot", "disabled b resync"}, []string{"1 changed a boot", "2 disabled b resync", "3 unmanaged rogue resync"}},
		"RowOfFormer":  {"https://a/", "", []string{"disabled b resync"}, []string{"1 disabled b resync", "2 unmanaged rogue resync"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, _ := rollingUpdate(t)
			newer := joinHolding(pool, newerEnvironment, time.Hour)
			require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return applyIn(t, tx, newer) }))
			newer.lead(t, pool)
			exec(t, pool, `UPDATE public.ai_providers SET base_url = $1 WHERE name = 'a'`, c.a)
			exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'b'`)
			insert(t, pool, "rogue")
			require.NoError(t, newer.Verify(t.Context(), resync))
			require.Equal(t, []string{"changed a resync", "disabled b resync"}, pending(t, pool))
			laterBy(t, pool, 59)
			rowsLaterBy(t, pool, 59)
			const since = `SELECT string_agg(since::text, ' ' ORDER BY provider) FROM
				(SELECT provider, since FROM provwatch.pending_drifts UNION ALL SELECT provider, since FROM provwatch.pending_rows) AS held WHERE provider IN ('b', 'rogue', `
			of := since + "'" + c.stays + "')"
			began := value(t, pool, of)

			allEnded(t, pool)
			restarted := joinHolding(pool, formerEnvironment, time.Hour)
			restarted.lead(t, pool)
			require.Equal(t, began, value(t, pool, of))
			require.Equal(t, c.pending, pending(t, pool))
			require.Empty(t, alerts(t, pool))
			newer.requireOlder(t, pool)
			laterBy(t, pool, 1)
			rowsLaterBy(t, pool, 1)
			require.NoError(t, restarted.Verify(t.Context(), hint(idOf(t, pool, "a"), idOf(t, pool, "b"), idOf(t, pool, "rogue"))))
			require.Equal(t, c.alerts, alerts(t, pool))
		})
	}
}
