package verify_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/rollout"
	"provwatch/internal/seed"
	"provwatch/internal/store"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

var (
	formerEnvironment = []provider.Desired{at("a", "https://a/"), at("b", "https://b/")}
	newerEnvironment  = []provider.Desired{at("a", "https://new/"), at("b", "https://b/")}
)

// joined is a verifier as a worker has it.
type joined struct {
	*verify.Verifier
	*rollout.Member
	metrics counter
}

func join(pool *pgxpool.Pool, role rollout.Role, desired []provider.Desired) *joined {
	j := &joined{Member: rollout.NewMember(uuid.New(), time.Hour, role)}
	j.Verifier = verify.New(pool, desired, drift.IgnoreCredentials, quiet, &j.metrics)
	j.JoinAs(j.Member)
	return j
}

// rollingUpdate returns a database with the former environment, and its worker, which leads.
func rollingUpdate(t *testing.T) (*pgxpool.Pool, *joined) {
	t.Helper()
	pool, _, _ := seeded(t, drift.IgnoreCredentials, formerEnvironment...)
	former := join(pool, rollout.Seeds, formerEnvironment)
	takeOver(t, pool, former.Verifier)
	require.NoError(t, former.Verify(t.Context(), boot))
	return pool, former
}

// applyNewer has a worker with the newer environment apply it to the row of a.
func applyNewer(t *testing.T, pool *pgxpool.Pool) *joined {
	t.Helper()
	newer := join(pool, rollout.Seeds, newerEnvironment)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return applyIn(t, tx, newer) }))
	return newer
}

func applyIn(t *testing.T, tx pgx.Tx, newer *joined) error {
	t.Helper()
	hasher, err := store.On(tx).Hasher(t.Context())
	require.NoError(t, err)
	_, err = newer.Take(t.Context(), tx, hasher, newerEnvironment)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://new/' WHERE name = 'a'`)
	return err
}

// records returns what the workers have recorded.
func records(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return value(t, pool, `SELECT concat_ws(' ', (SELECT generation FROM provwatch.alert_counter), (SELECT string_agg(s::text, ' ' ORDER BY provider) FROM provwatch.drift_state s),
		(SELECT string_agg(b::text, ' ' ORDER BY provider) FROM provwatch.base_pairs b))`)
}

func TestOlderEnvironment(t *testing.T) {
	t.Parallel()
	t.Run("RecordsNothing", testOlderEnvironmentRecordsNothing)
	t.Run("ReadBefore", testOlderEnvironmentReadBefore)
	t.Run("FromTheWAL", testOlderEnvironmentFromTheWAL)
	t.Run("Rollback", testOlderEnvironmentRollback)
	t.Run("UnnamedProvider", testOlderEnvironmentUnnamedProvider)
	t.Run("Observer", testOlderEnvironmentObserver)
	t.Run("UnknownHint", testOlderEnvironmentUnknownHint)
	t.Run("Standby", testOlderEnvironmentStandby)
	t.Run("UnmanagedRow", testOlderEnvironmentUnmanagedRow)
}

// testOlderEnvironmentUnmanagedRow has the former worker look for unmanaged rows: it alerts none,
// and takes none for known ones.
func testOlderEnvironmentUnmanagedRow(t *testing.T) {
	t.Parallel()
	pool, _ := rollingUpdate(t)
	former := join(pool, rollout.Seeds, formerEnvironment)
	former.LookForUnmanaged(drift.AlertUnmanaged)
	applyNewer(t, pool)
	id := insert(t, pool, "rogue")
	for _, request := range []verify.Request{resync, hint(id)} {
		require.True(t, rollout.IsOlder(former.Verify(t.Context(), request)))
	}
	epoch, err := store.On(pool).ReadEpoch(t.Context())
	require.NoError(t, err)
	var newest int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT max(generation) FROM provwatch.environments`).Scan(&newest))
	start := func(generation int64) bool {
		t.Helper()
		made, err := store.On(pool).StartUnmanaged(t.Context(), []string{"a", "b"}, currentTerm(t, pool), generation, epoch)
		require.NoError(t, err)
		return made != 0
	}
	require.False(t, start(newest-1), "it has read the generation before")
	require.Empty(t, kinds(t, pool))
	require.Equal(t, "0", value(t, pool, `SELECT count(*)::text FROM provwatch.unmanaged_baseline`))
	require.True(t, start(newest))
	require.Equal(t, "rogue known", kinds(t, pool))
	insert(t, pool, "another")
	require.True(t, rollout.IsOlder(former.Verify(t.Context(), resync)))
	require.Empty(t, alerts(t, pool))
}

// testOlderEnvironmentRecordsNothing has the former worker verify, in each way, what the newer
// one has applied.
func testOlderEnvironmentRecordsNothing(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	require.Nil(t, former.Older())
	newer := applyNewer(t, pool)
	before := records(t, pool)
	for _, request := range []verify.Request{resync, reload, {Source: pubsub.SourceNotify, ProviderIDs: []uuid.UUID{idOf(t, pool, "a")}}} {
		require.True(t, rollout.IsOlder(former.Verify(t.Context(), request)))
	}
	_, _, err := former.Suspects(t.Context(), resync)
	require.True(t, rollout.IsOlder(err))
	_, err = former.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
	require.True(t, rollout.IsOlder(err))
	require.True(t, rollout.IsOlder(former.End(t.Context(), pubsub.SourceResync, verify.Begun{})))
	require.Zero(t, former.metrics.failed, "that is no failure")
	require.Equal(t, before, records(t, pool))
	require.Equal(t, newer.ID(), former.Older().Worker)

	restarted := join(pool, rollout.Seeds, formerEnvironment)
	require.True(t, rollout.IsOlder(restarted.TakeOver(t.Context(), currentTerm(t, pool), pubsub.SourceBoot)))
	takeOver(t, pool, newer.Verifier)
	require.NoError(t, newer.Verify(t.Context(), boot))
	require.Empty(t, alerts(t, pool))
	require.NotEqual(t, before, records(t, pool))
	require.Nil(t, newer.Older())
}

// testOlderEnvironmentReadBefore has the former worker read a drift before the newer one applies
// its environment, and record it after that.
func testOlderEnvironmentReadBefore(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'b'`)
	observed, err := former.Observe(t.Context(), []drift.Subject{{Provider: "b"}})
	require.NoError(t, err)
	require.Len(t, observed, 1)
	newer := applyNewer(t, pool)
	before := records(t, pool)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := former.Record(t.Context(), tx, observed, pubsub.SourceResync)
		require.True(t, rollout.IsOlder(err))
		return nil
	}))
	require.Equal(t, before, records(t, pool))
	takeOver(t, pool, newer.Verifier)
	require.NoError(t, newer.Verify(t.Context(), boot))
	require.Equal(t, []string{"1 disabled b boot"}, alerts(t, pool))
}

// testOlderEnvironmentFromTheWAL has the stream show what was changed before the newer worker
// came.
func testOlderEnvironmentFromTheWAL(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	newer := applyNewer(t, pool)
	changed := verify.Observed{
		Observation: drift.Observation{Provider: "b", ProviderID: idOf(t, pool, "b"), Kind: drift.Disabled, EnvHash: "e", DBHash: "e"},
		Commit:      &pubsub.Commit{LSN: "0/10", XID: 7, CommittedAt: time.Unix(1, 0)},
	}
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := former.Record(t.Context(), tx, []verify.Observed{changed}, pubsub.SourceWAL)
		require.True(t, rollout.IsOlder(err))
		return nil
	}))
	require.Empty(t, alerts(t, pool))
	require.True(t, rollout.IsOlder(former.Overtaken(t.Context())))
	require.NoError(t, newer.Overtaken(t.Context()))
}

// testOlderEnvironmentRollback ends the newer worker for good.
func testOlderEnvironmentRollback(t *testing.T) {
	t.Parallel()
	pool, _ := rollingUpdate(t)
	newer := applyNewer(t, pool)
	takeOver(t, pool, newer.Verifier)
	require.NoError(t, newer.Verify(t.Context(), boot))
	exec(t, pool, `UPDATE provwatch.workers SET seen_at = seen_at - interval '1 hour'`)
	restarted := join(pool, rollout.Seeds, formerEnvironment)
	takeOver(t, pool, restarted.Verifier)
	require.NoError(t, restarted.Verify(t.Context(), boot))
	require.Equal(t, []string{"1 changed a boot"}, alerts(t, pool))
	require.Equal(t, "environment", value(t, pool, `SELECT moved FROM provwatch.drift_alerts`))
	require.True(t, rollout.IsOlder(newer.Verify(t.Context(), resync)), "it is the older one now")
}

// testOlderEnvironmentUnnamedProvider has an environment that lacks a provider of the newer one.
func testOlderEnvironmentUnnamedProvider(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	wider := append([]provider.Desired{at("c", "https://c/")}, formerEnvironment...)
	newer := join(pool, rollout.Seeds, wider)
	_, err := seed.Seed(t.Context(), pool, wider, false, quiet, seed.As(newer.Member))
	require.NoError(t, err)
	takeOver(t, pool, newer.Verifier)
	require.NoError(t, newer.Verify(t.Context(), boot))
	before := records(t, pool)
	require.True(t, rollout.IsOlder(former.Verify(t.Context(), resync)))
	require.Equal(t, before, records(t, pool), "it does not forget what it does not name")
}

// testOlderEnvironmentObserver has an observer with the former environment lead.
func testOlderEnvironmentObserver(t *testing.T) {
	t.Parallel()
	pool, _ := rollingUpdate(t)
	observer := join(pool, rollout.Observes, formerEnvironment)
	takeOver(t, pool, observer.Verifier)
	require.NoError(t, observer.Verify(t.Context(), boot))
	generations := value(t, pool, `SELECT string_agg(generation::text, ' ') FROM provwatch.environments`)
	newer := applyNewer(t, pool)
	require.True(t, rollout.IsOlder(observer.Verify(t.Context(), resync)))
	require.Empty(t, alerts(t, pool))

	// Two more observers: with the newer environment, and with an environment that no worker has
	// recorded.
	for _, desired := range [][]provider.Desired{newerEnvironment, {at("a", "https://new/")}} {
		other := join(pool, rollout.Observes, desired)
		takeOver(t, pool, other.Verifier)
		require.NoError(t, other.Verify(t.Context(), boot))
	}
	require.Empty(t, alerts(t, pool))
	require.NotEqual(t, generations, value(t, pool, `SELECT string_agg(generation::text, ' ') FROM provwatch.environments`))
	require.Equal(t, "2", value(t, pool, `SELECT count(*)::text FROM provwatch.environments`))
	require.Nil(t, newer.Older())
}

// testOlderEnvironmentUnknownHint verifies a hint that no row belongs to, which reads no row and
// so no generation.
func testOlderEnvironmentUnknownHint(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	require.NoError(t, former.Verify(t.Context(), verify.Request{Source: pubsub.SourceNotify, ProviderIDs: []uuid.UUID{uuid.New()}}))
	applyNewer(t, pool)
	require.True(t, rollout.IsOlder(former.Verify(t.Context(), verify.Request{Source: pubsub.SourceNotify, ProviderIDs: []uuid.UUID{uuid.New()}})))
}

// testOlderEnvironmentStandby has the former worker stand by: it verifies, and misses nothing of
// the leader's that the environments do not share.
func testOlderEnvironmentStandby(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	newer := applyNewer(t, pool)
	takeOver(t, pool, newer.Verifier)
	require.NoError(t, newer.Verify(t.Context(), boot))
	found, err := former.Unrecorded(t.Context(), resync)
	require.NoError(t, err)
	require.Empty(t, found)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	found, err = former.Unrecorded(t.Context(), resync)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "b", found[0].Provider, "which both environments name with the same values")
}

// TestOvertakenWhileRecording has the newer worker commit while the former one waits for the
// alerts' lock with what it has read before.
func TestOvertakenWhileRecording(t *testing.T) {
	t.Parallel()
	pool, former := rollingUpdate(t)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'b'`)
	observed, err := former.Observe(t.Context(), []drift.Subject{{Provider: "b"}})
	require.NoError(t, err)
	lock, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = lock.Rollback(context.Background()) })
	_, err = lock.Exec(t.Context(), `SELECT FROM provwatch.alert_counter FOR UPDATE`)
	require.NoError(t, err)
	recorded := make(chan error, 1)
	go func() {
		recorded <- pgx.BeginFunc(context.Background(), pool, func(tx pgx.Tx) error {
			_, err := former.Record(context.Background(), tx, observed, pubsub.SourceResync)
			return err
		})
	}()
	waittest.Until(t, func() bool { return waiting(t, pool) == "1" }, "the record waits for the alerts' lock")
	applyNewer(t, pool)
	require.NoError(t, lock.Rollback(t.Context()))
	require.True(t, rollout.IsOlder(<-recorded))
	require.Empty(t, alerts(t, pool))
}

// overtaking has another environment become the newest after each time that a worker has taken a
// generation, while it is on.
type overtaking struct {
	pool  *pgxpool.Pool
	on    bool
	taken int
}

func (o *overtaking) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, tracedQuery{}, data.SQL)
}

func (o *overtaking) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(tracedQuery{}).(string); !o.on || !strings.Contains(sql, "name: attendEnvironments") {
		return
	}
	o.taken++
	// No worker is there with it, so that none is older.
	_, _ = o.pool.Exec(context.Background(), `INSERT INTO provwatch.environments (digest) VALUES (gen_random_uuid()::text)`)
}

// TestAlwaysOvertaken has other environments become the newest again and again: a verification
// gives up after a number of rounds, and records nothing.
func TestAlwaysOvertaken(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, formerEnvironment, false, quiet)
	require.NoError(t, err)
	others := &overtaking{pool: pool}
	traced := config.Copy()
	traced.ConnConfig.Tracer = others
	own, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	t.Cleanup(own.Close)
	worker := join(own, rollout.Seeds, formerEnvironment)
	takeOver(t, pool, worker.Verifier)
	require.NoError(t, worker.Verify(t.Context(), boot))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'b'`)
	before := records(t, pool)

	others.on = true
	exec(t, pool, `INSERT INTO provwatch.environments (digest) VALUES ('another')`)
	err = worker.Verify(t.Context(), resync)
	require.ErrorContains(t, err, "another environment has become the newest meanwhile")
	require.False(t, rollout.IsOlder(err))
	require.Equal(t, 10, others.taken)
	require.Equal(t, 1, worker.metrics.failed)
	require.Equal(t, before, records(t, pool))

	others.on = false
	require.NoError(t, worker.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 disabled b resync"}, alerts(t, pool))
}
