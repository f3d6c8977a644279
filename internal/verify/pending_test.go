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
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// pending returns the pending drifts, each "kind provider", with the source that has shown it.
func pending(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT concat_ws(' ', kind, provider, source) FROM provwatch.pending_drifts ORDER BY provider`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// seenPassed returns how many drifts ended that were not alerted, and the pending ones, as they
// were measured.
func (c *counter) seenPassed() (passed int, pending map[string]drift.Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed, c.pending
}

// holding is seeded with a verifier that alerts drifts after an hour, and leads.
func holding(t *testing.T, desired ...provider.Desired) (*pgxpool.Pool, *verify.Verifier, *counter) {
	t.Helper()
	pool, v, metrics := seeded(t, drift.IgnoreCredentials, desired...)
	v.AlertAfter(time.Hour)
	takeOver(t, pool, v)
	return pool, v, metrics
}

// laterBy makes all pending drifts have begun earlier.
func laterBy(t *testing.T, pool *pgxpool.Pool, minutes int) {
	t.Helper()
	exec(t, pool, `UPDATE provwatch.pending_drifts SET since = since - make_interval(mins => $1)`, minutes)
}

func TestPending(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"Lasts": testPendingLasts, "EndsBefore": testPendingEndsBefore, "NextLeader": testPendingNextLeader, "Commits": testPendingCommits,
		"NoLongerNamed": testPendingNoLongerNamed, "Silenced": testPendingSilenced, "Standby": testPendingStandby, "FirstObservation": testPendingFirstObservation,
		"Applied": testPendingApplied, "ClockSetBack": testPendingClockSetBack, "CommitsBeforeReload": testPendingCommitsBeforeReload,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// testPendingLasts alerts a drift once it has lasted. Other values do not restart its time.
func testPendingLasts(t *testing.T) {
	pool, v, metrics := holding(t, openAI("a"), openAI("b"))
	move := mover{t, pool, v}
	move.to("a", "https://2/")
	for range 2 {
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	require.Equal(t, []string{"changed a resync"}, pending(t, pool))
	require.Empty(t, alerts(t, pool))
	require.Equal(t, "in_sync", value(t, pool, `SELECT kind FROM provwatch.drift_state WHERE provider = 'a'`))
	_, measured := metrics.seenPassed()
	require.Equal(t, map[string]drift.Kind{"a": drift.Changed}, measured)
	require.Empty(t, metrics.drifting)

	laterBy(t, pool, 59)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'a'`)
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Equal(t, []string{"disabled a reload"}, pending(t, pool))
	require.Empty(t, alerts(t, pool))
	laterBy(t, pool, 1)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 disabled a reload"}, alerts(t, pool), "with the source that has shown it")
	require.Empty(t, pending(t, pool))
	require.Equal(t, map[drift.Kind]int{drift.Disabled: 1}, metrics.drifting)
	// From now on it is alerted at once when it changes, or ends.
	exec(t, pool, `UPDATE public.ai_providers SET enabled = true WHERE name = 'a'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	move.to("a", "https://h/")
	require.Equal(t, []string{"1 disabled a reload", "2 changed a resync", "3 resolved a resync"}, alerts(t, pool))
	passed, _ := metrics.seenPassed()
	require.Zero(t, passed)
}

// testPendingEndsBefore ends drifts that have not lasted: a full verification finds it, though it
// reads only what is not known to be in sync, and so does a hinted one.
func testPendingEndsBefore(t *testing.T) {
	pool, v, metrics := holding(t, openAI("a"), openAI("b"))
	move := mover{t, pool, v}
	for i := range 3 {
		move.to("a", "https://2/")
		require.Len(t, pending(t, pool), 1)
		if i == 1 {
			exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://h/'`)
			require.NoError(t, v.Verify(t.Context(), verify.Request{ProviderIDs: []uuid.UUID{idOf(t, pool, "a")}, Source: pubsub.SourceNotify}))
		} else {
			move.to("a", "https://h/")
		}
		require.Empty(t, pending(t, pool))
		passed, measured := metrics.seenPassed()
		require.Equal(t, i+1, passed)
		require.Empty(t, measured)
	}
	require.Empty(t, alerts(t, pool))
	require.Equal(t, "0", value(t, pool, `SELECT last_seq::text FROM provwatch.alert_counter`))
}

// testPendingNextLeader has other workers take over while a drift is pending: its time goes on.
func testPendingNextLeader(t *testing.T) {
	desired := []provider.Desired{openAI("a")}
	pool, v, _ := holding(t, desired...)
	mover{t, pool, v}.to("a", "https://2/")
	since := value(t, pool, `SELECT since::text FROM provwatch.pending_drifts`)
	next := func() *verify.Verifier {
		t.Helper()
		v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
		v.AlertAfter(time.Hour)
		takeOver(t, pool, v)
		require.NoError(t, v.Verify(t.Context(), boot))
		return v
	}
	next()
	require.Equal(t, since, value(t, pool, `SELECT since::text FROM provwatch.pending_drifts`))
	require.Empty(t, alerts(t, pool))
	laterBy(t, pool, 60)
	next()
	require.Equal(t, []string{"1 changed a resync"}, alerts(t, pool))
	next()
	require.Len(t, alerts(t, pool), 1)
}

// testPendingCommits has the WAL show drifts that begin and end at the times of their commits,
// whenever the worker comes to them.
func testPendingCommits(t *testing.T) {
	pool, v, metrics := holding(t, openAI("a"))
	begun := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	commits := 0
	observe := func(baseURL string, minutes int) verify.Observed {
		t.Helper()
		exec(t, pool, `UPDATE public.ai_providers SET base_url = $1`, baseURL)
		observed, err := v.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
		require.NoError(t, err)
		commits++
		observed[0].Commit = &pubsub.Commit{LSN: fmt.Sprintf("0/%d", commits), XID: int64(commits), CommittedAt: begun.Add(time.Duration(minutes) * time.Minute)}
		return observed[0]
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
		rows, err := pool.Query(t.Context(), `SELECT concat_ws(' ', seq, kind, source, xid, extract(epoch FROM committed_at - $1::timestamptz)::int / 60) FROM provwatch.drift_alerts ORDER BY seq`, begun)
		require.NoError(t, err)
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return list
	}
	// One ends before it has lasted, and the next one after, in one transaction of ours.
	record(observe("https://2/", 0), observe("https://h/", 59), observe("https://3/", 60), observe("https://h/", 120))
	want := []string{"1 changed wal 3 60", "2 resolved wal 4 120"}
	require.Equal(t, want, commitsOf())
	passed, _ := metrics.seenPassed()
	require.Equal(t, 1, passed)

	// A drift that lasts is alerted by a verification, with the commit that made it so.
	record(observe("https://4/", 125))
	record(observe("https://5/", 130))
	require.Equal(t, []string{"changed a wal"}, pending(t, pool))
	require.Equal(t, want, commitsOf())
	laterBy(t, pool, 10)
	observed, err := v.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := v.Record(t.Context(), tx, observed, pubsub.SourceResync)
		return err
	}))
	require.Equal(t, append(want, "3 changed wal 6 130"), commitsOf())
}

// testPendingCommitsBeforeReload has the WAL show, after a reload, older commits of a row that the
// environment has only moved away from by the reload: the drift did not begin with them.
func testPendingCommitsBeforeReload(t *testing.T) {
	pool, v, _ := holding(t, openAI("a"))
	var before time.Time
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&before))
	v.SetDesired([]provider.Desired{at("a", "https://2/")})
	observed, err := v.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
	require.NoError(t, err)
	record := func(xid int64) (since time.Time) {
		t.Helper()
		observed[0].Commit = &pubsub.Commit{LSN: "0/1", XID: xid, CommittedAt: before.Add(-3 * time.Hour)}
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
			return err
		}))
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT since FROM provwatch.pending_drifts WHERE moved = 'environment'`).Scan(&since))
		return since
	}
	since := record(1)
	require.False(t, since.Before(before), "%s is before %s", since, before)
	require.Equal(t, since, record(2))
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Equal(t, since, record(3))
	require.Empty(t, alerts(t, pool))
	laterBy(t, pool, 60)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a wal"}, alerts(t, pool))
}

// testPendingNoLongerNamed has an environment that no longer names providers whose drift is
// pending, one of which has nothing else recorded.
func testPendingNoLongerNamed(t *testing.T) {
	pool, v, metrics := holding(t, openAI("a"))
	v.SetDesired([]provider.Desired{openAI("a"), openAI("b")})
	mover{t, pool, v}.to("a", "https://2/")
	require.Equal(t, []string{"changed a resync", "missing b resync"}, pending(t, pool))
	v.SetDesired(nil)
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Empty(t, pending(t, pool))
	require.Empty(t, alerts(t, pool))
	passed, _ := metrics.seenPassed()
	require.Equal(t, 2, passed)
}

// testPendingSilenced has a silence that ends while a drift is pending, and another that begins then.
func testPendingSilenced(t *testing.T) {
	pool, v, _ := holding(t, openAI("a"), openAI("b"))
	silence(t, pool, "a")
	mover{t, pool, v}.to("a", "https://2/")
	mover{t, pool, v}.to("b", "https://2/")
	endSilences(t, pool)
	silence(t, pool, "b")
	laterBy(t, pool, 60)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a", "2 changed b silenced"}, silenced(t, pool))
}

// testPendingStandby has a standby see a drift that the leader has pending.
func testPendingStandby(t *testing.T) {
	desired := []provider.Desired{openAI("a")}
	pool, v, _ := holding(t, desired...)
	other := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/'`)
	found, err := other.Unrecorded(t.Context(), resync)
	require.NoError(t, err)
	require.Len(t, found, 1, "the leader has not seen it")
	require.NoError(t, v.Verify(t.Context(), resync))
	found, err = other.Unrecorded(t.Context(), resync)
	require.NoError(t, err)
	require.Empty(t, found)
}

// testPendingFirstObservation has providers that drift at their first verification, before
// anything is recorded of them.
func testPendingFirstObservation(t *testing.T) {
	pool, v, _ := holding(t, openAI("a"))
	exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'b', 'https://2/')`)
	v.SetDesired([]provider.Desired{openAI("a"), openAI("b"), openAI("c")})
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Equal(t, []string{"changed b reload", "missing c reload"}, pending(t, pool))
	laterBy(t, pool, 60)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed b reload", "2 missing c reload"}, alerts(t, pool))
	require.Equal(t, []string{"1 changed b unknown", "2 missing c environment"}, causes(t, pool))
}

// testPendingApplied has a reload apply what its environment has changed: meanwhile that is no
// drift. What the apply has left is one.
func testPendingApplied(t *testing.T) {
	pool, v, metrics := holding(t, openAI("a"), openAI("b"))
	newer := []provider.Desired{at("a", "https://2/"), at("b", "https://2/")}
	v.BeginApply(newer)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Empty(t, pending(t, pool))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/' WHERE name = 'a'`)
	v.SetDesired(newer)
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Equal(t, []string{"changed b reload"}, pending(t, pool))
	passed, _ := metrics.seenPassed()
	require.Zero(t, passed)
}

// testPendingClockSetBack sets the database's clock back while a drift is pending: it lasts from
// then on, and not until the clock is where it was.
func testPendingClockSetBack(t *testing.T) {
	pool, v, _ := holding(t, openAI("a"))
	mover{t, pool, v}.to("a", "https://2/")
	laterBy(t, pool, -24*60)
	queue := verify.NewQueue()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { v.Run(ctx, queue, time.Second, host{}) })
	running.Go(func() { v.FollowPending(ctx, queue) })
	defer running.Wait()
	defer cancel()
	waittest.Until(t, func() bool {
		return value(t, pool, `SELECT (since <= now())::text FROM provwatch.pending_drifts`) == "true"
	}, "it lasts from now on")
	require.Empty(t, alerts(t, pool))
}

// TestFollowPending runs a verifier without a resync: what makes it alert is the time, also of a
// provider without a row.
func TestFollowPending(t *testing.T) {
	t.Parallel()
	pool, v, metrics := holding(t, openAI("a"), openAI("b"))
	queue := verify.NewQueue()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { v.Run(ctx, queue, time.Second, host{}) })
	running.Go(func() { v.FollowPending(ctx, queue) })
	defer running.Wait()
	defer cancel()
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/'`)
	queue.Add(verify.Request{ProviderIDs: []uuid.UUID{idOf(t, pool, "a"), idOf(t, pool, "b")}, Source: pubsub.SourceNotify})
	waittest.Until(t, func() bool { return len(pending(t, pool)) == 2 }, "both are pending")
	require.Empty(t, alerts(t, pool))
	exec(t, pool, `UPDATE provwatch.pending_drifts SET since = now() - interval '1 hour' + interval '1 second' WHERE provider = 'a'`)
	v.SetDesired([]provider.Desired{openAI("a"), openAI("b"), openAI("c")})
	queue.Add(reload)
	waittest.Until(t, func() bool { return len(alerts(t, pool)) == 1 }, "the first is alerted")
	require.Equal(t, []string{"1 changed a notify"}, alerts(t, pool))
	require.Equal(t, []string{"changed b notify", "missing c reload"}, pending(t, pool))
	laterBy(t, pool, 60)
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://h/' WHERE name = 'b'`)
	queue.Add(verify.Request{ProviderIDs: []uuid.UUID{idOf(t, pool, "b")}, Source: pubsub.SourceNotify})
	waittest.Until(t, func() bool { return len(alerts(t, pool)) == 2 }, "the provider without a row is alerted")
	require.Equal(t, "2 missing c reload", alerts(t, pool)[1])
	passed, _ := metrics.seenPassed()
	require.Equal(t, 1, passed)
}
