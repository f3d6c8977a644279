package verify_test

import (
	"context"
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
	commit := &committing{}
	traced := config.Copy()
	traced.ConnConfig.Tracer = commit
	recording, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	t.Cleanup(recording.Close)
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
