package verify_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/seed"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// committing commits a transaction once, after the first query that looks for invisible ones.
type committing struct {
	tx   pgx.Tx
	once sync.Once
}

type tracedQuery struct{}

// newCommitting returns what commits a transaction, and the pool whose queries it traces.
func newCommitting(t *testing.T, config *pgxpool.Config) (*committing, *pgxpool.Pool) {
	t.Helper()
	commit, traced := &committing{}, config.Copy()
	traced.ConnConfig.Tracer = commit
	recording, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	t.Cleanup(recording.Close)
	return commit, recording
}

func (c *committing) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, tracedQuery{}, data.SQL)
}

func (c *committing) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(tracedQuery{}).(string); strings.Contains(sql, "name: ListInvisible") {
		c.once.Do(func() { _ = c.tx.Commit(context.Background()) })
	}
}

// recordCommits records rows of a provider as commits of a transaction show them.
func recordCommits(t *testing.T, pool *pgxpool.Pool, v *verify.Verifier, xid int64, desired provider.Desired, baseURLs ...string) {
	t.Helper()
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	var observed []verify.Observed
	for _, baseURL := range baseURLs {
		row := &provider.Row{ID: idOf(t, pool, desired.Name), Name: desired.Name, Type: desired.Type, BaseURL: baseURL, Enabled: true}
		observed = append(observed, verify.Observed{
			Observation: drift.Compare(hasher, desired, row, false), Commit: &pubsub.Commit{LSN: "0/1", XID: xid, CommittedAt: time.Now()},
		})
	}
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
		return err
	}))
}

func TestRecord(t *testing.T) {
	t.Parallel()
	t.Run("InvisibleCommit", testRecordInvisibleCommit)
	t.Run("InvisibleAcceptance", testRecordInvisibleAcceptance)
	t.Run("RenewedAcceptance", testRecordRenewedAcceptance)
	t.Run("SinceWhen", testRecordSinceWhen)
}

// testRecordInvisibleCommit has the stream show the commit of a resolution before queries see
// what else it wrote.
func testRecordInvisibleCommit(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	desired := at("a", "https://1/")
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{desired}, false, quiet)
	require.NoError(t, err)
	commit, recording := newCommitting(t, config)
	v := verify.New(recording, []provider.Desired{desired}, drift.IgnoreCredentials, quiet, &counter{})
	require.NoError(t, v.Verify(t.Context(), boot))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/'`)
	require.NoError(t, v.Verify(t.Context(), resync))

	commit.tx, err = pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = commit.tx.Rollback(context.Background()) })
	var xid int64
	require.NoError(t, commit.tx.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&xid))
	recorded, err := store.On(pool).ReadRecorded(t.Context(), []string{"a"})
	require.NoError(t, err)
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	base := drift.Agreement(hasher, desired, drift.ByResolve)
	base.SetAt = recorded["a"].Base.SetAt
	require.NoError(t, store.On(commit.tx).SetBases(t.Context(), []store.NamedBase{{Provider: "a", Base: base}}))
	recordCommits(t, recording, v, xid, desired, "https://1/")
	require.Equal(t, []string{"1 changed a database", "2 resolved a resolved_by_operator ends 1"}, causes(t, pool))
}

// renewing is a disabled row of which another difference was accepted, under an environment that
// has changed since, and the transaction of an apply that has not committed.
type renewing struct {
	pool    *pgxpool.Pool
	v       *verify.Verifier
	desired provider.Desired // that is applied
	applied *provider.Row
	tx      pgx.Tx
	xid     int64
}

// newRenewing applies an environment in a transaction that stays open. The verifier records with
// the pool recording, and has alerted the changed environment where alerted is set.
func newRenewing(t *testing.T, pool, recording *pgxpool.Pool, alerted bool) renewing {
	t.Helper()
	former, desired := at("a", "https://1/"), at("a", "https://3/")
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{former}, false, quiet)
	require.NoError(t, err)
	r := renewing{pool: pool, desired: desired, v: verify.New(recording, []provider.Desired{former}, drift.IgnoreCredentials, quiet, &counter{})}
	require.NoError(t, r.v.Verify(t.Context(), boot))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false, base_url = 'https://2/'`)
	require.NoError(t, r.v.Verify(t.Context(), resync))
	_, err = reconcile.Resolve(t.Context(), pool, nil, []provider.Desired{former}, reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials})
	require.NoError(t, err)
	require.NoError(t, r.v.Verify(t.Context(), resync))
	r.v.SetDesired([]provider.Desired{desired})
	if alerted {
		require.NoError(t, r.v.Verify(t.Context(), reload))
	}
	r.applied = &provider.Row{ID: idOf(t, pool, "a"), Name: "a", Type: desired.Type, BaseURL: desired.BaseURL}

	r.tx, err = pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.tx.Rollback(context.Background()) })
	queries := store.On(r.tx)
	stored, err := queries.LoadLocked(t.Context(), []string{"a"}, nil, false)
	require.NoError(t, err)
	plan, err := reconcile.PlanApply(t.Context(), r.tx, drift.MakePlan([]provider.Desired{desired}, stored, drift.IgnoreCredentials), nil)
	require.NoError(t, err)
	outcomes, err := plan.Write(t.Context(), r.tx, reconcile.Author{Actor: "test", At: time.Now()})
	require.NoError(t, err)
	require.True(t, outcomes[0].Written())
	require.True(t, outcomes[0].AcceptanceRenewed)
	require.NoError(t, r.tx.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&r.xid))
	return r
}

// requireAccepted checks that the renewed acceptance holds.
func (r renewing) requireAccepted(t *testing.T) {
	t.Helper()
	hasher, err := r.v.Hasher(t.Context())
	require.NoError(t, err)
	recorded, err := store.On(r.pool).ReadRecorded(t.Context(), []string{"a"})
	require.NoError(t, err)
	require.True(t, recorded["a"].Accepted.Holds(drift.Compare(hasher, r.desired, r.applied, false)))
}

// testRecordInvisibleAcceptance has the stream show the commit of an apply before queries see the
// acceptance that it renews: the drift is accepted, and there is no alert.
func testRecordInvisibleAcceptance(t *testing.T) {
	t.Parallel()
	want := []string{"1 disabled a database", "2 resolved a accepted ends 1"}
	for name, c := range map[string]struct {
		alerted    bool
		alertAfter time.Duration
		want       []string
	}{
		"Alerted": {true, 0, append(slices.Clone(want), "3 disabled a database", "4 resolved a accepted ends 3")},
		"InSync":  {false, 0, want},
		"Pending": {false, time.Hour, want},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, config := pgtest.NewPool(t)
			commit, recording := newCommitting(t, config)
			r := newRenewing(t, pool, recording, c.alerted)
			r.v.AlertAfter(c.alertAfter)
			commit.tx = r.tx
			hasher, err := r.v.Hasher(t.Context())
			require.NoError(t, err)
			observed := []verify.Observed{{
				Observation: drift.Compare(hasher, r.desired, r.applied, false),
				Commit:      &pubsub.Commit{LSN: "FFFFFFFF/0", XID: r.xid, CommittedAt: time.Now()},
			}}
			require.NoError(t, pgx.BeginFunc(t.Context(), recording, func(tx pgx.Tx) error {
				_, err := r.v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
				return err
			}))
			require.Equal(t, c.want, causes(t, pool))
			require.Empty(t, pending(t, pool))
			r.requireAccepted(t)
		})
	}
}

// testRecordRenewedAcceptance records what was read before an apply that renews the acceptance.
func testRecordRenewedAcceptance(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	r := newRenewing(t, pool, pool, true)
	observed, err := r.v.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
	require.NoError(t, err)
	require.NoError(t, r.tx.Commit(t.Context()))
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := r.v.Record(t.Context(), tx, observed, pubsub.SourceNotify)
		return err
	}))
	r.requireAccepted(t)
	require.NoError(t, r.v.Verify(t.Context(), resync))
	want := []string{"1 disabled a database", "2 resolved a accepted ends 1", "3 disabled a database", "4 resolved a accepted ends 3"}
	require.Equal(t, want, causes(t, pool))
}

// testRecordSinceWhen records a drift that ended and began again with the same values.
func testRecordSinceWhen(t *testing.T) {
	t.Parallel()
	desired := at("a", "https://1/")
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired)
	const since = `SELECT observed_at::text FROM provwatch.drift_state WHERE provider = 'a'`
	recordCommits(t, pool, v, 1, desired, "https://2/")
	before := value(t, pool, since)
	recordCommits(t, pool, v, 2, desired, "https://1/", "https://2/")
	require.Equal(t, []string{"1 changed a database", "2 resolved a reverted ends 1", "3 changed a database"}, causes(t, pool))
	require.NotEqual(t, before, value(t, pool, since))
}
