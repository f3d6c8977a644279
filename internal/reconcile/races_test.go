package reconcile_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/store"
)

func TestApplyRaces(t *testing.T) {
	t.Parallel()
	t.Run("AgreementRecorded", testApplyRacesAgreementRecorded)
	t.Run("RowMade", testApplyRacesRowMade)
	t.Run("RowInserted", testApplyRacesRowInserted)
}

// around does something at the first query that has a text: before it is sent, or after its
// answer.
type around struct {
	before, after string
	doBefore      func()
	doAfter       func()

	begun, ended atomic.Bool
}

type tracedQuery struct{}

func (a *around) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if a.before != "" && strings.Contains(data.SQL, a.before) && !a.begun.Swap(true) {
		a.doBefore()
	}
	return context.WithValue(ctx, tracedQuery{}, data.SQL)
}

func (a *around) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(tracedQuery{}).(string); a.after != "" && strings.Contains(sql, a.after) && !a.ended.Swap(true) {
		a.doAfter()
	}
}

// through returns a pool of the same database. What is done around queries of it has been done when
// the test ends.
func through(t *testing.T, pool *pgxpool.Pool, a *around) *pgxpool.Pool {
	t.Helper()
	traced := pool.Config()
	traced.ConnConfig.Tracer = a
	t.Cleanup(func() {
		require.Equal(t, a.before != "", a.begun.Load(), "a query has the text %q", a.before)
		require.Equal(t, a.after != "", a.ended.Load(), "a query has the text %q", a.after)
	})
	through, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	t.Cleanup(through.Close)
	return through
}

func atURL(baseURL string) provider.Desired {
	return provider.Desired{Name: "a", Type: provider.OpenAI, BaseURL: baseURL, Variables: "X"}
}

func applyOne(t *testing.T, pool *pgxpool.Pool, desired provider.Desired) (reconcile.Applied, error) {
	t.Helper()
	outcomes, err := reconcile.Apply(t.Context(), pool, noKeys, []provider.Desired{desired}, reconcile.ApplyRequest{Credentials: drift.IgnoreCredentials})
	if err != nil {
		return reconcile.Applied{}, err
	}
	return outcomes[0], nil
}

// testApplyRacesAgreementRecorded has a leader with the former environment record that both sides
// agree, as it read them before, once the apply has read what they agreed on. What both sides
// agree on then is what was applied: otherwise the row could move back, and be written over.
func testApplyRacesAgreementRecorded(t *testing.T) {
	t.Parallel()
	former := atURL("https://1/")
	pool := seededWith(t, former)
	hasher, err := store.On(pool).Hasher(t.Context())
	require.NoError(t, err)
	stale := drift.Agreement(hasher, former, drift.ByAgreement)
	recorded, err := store.On(pool).ReadRecorded(t.Context(), []string{"a"})
	require.NoError(t, err)
	stale.SetAt = recorded["a"].Base.SetAt
	applying := through(t, pool, &around{before: "UPDATE gateway.ai_providers", doBefore: func() {
		require.NoError(t, store.On(pool).SetBases(t.Context(), []store.NamedBase{{Provider: "a", Base: stale}}))
	}})
	applied, err := applyOne(t, applying, atURL("https://2/"))
	require.NoError(t, err)
	require.Equal(t, drift.ApplyUpdate, applied.Action)
	require.Equal(t, "https://2/ https://2/ true", value(t, pool, `SELECT concat_ws(' ', env_base_url, db_base_url, (applied_lsn IS NOT NULL)::text) FROM provwatch.base_pairs`))

	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://1/'`)
	require.NoError(t, err)
	applied, err = applyOne(t, pool, atURL("https://3/"))
	require.NoError(t, err)
	require.Equal(t, drift.ApplyRefused, applied.Action, "the row has moved back")
}

// testApplyRacesRowMade has the gateway make the row of a provider once the apply has locked
// all that were there: no other program writes to it before the apply does.
func testApplyRacesRowMade(t *testing.T) {
	t.Parallel()
	pool := seededWith(t, atURL("https://1/"))
	_, err := pool.Exec(t.Context(), `DELETE FROM public.ai_providers`)
	require.NoError(t, err)
	var locked error
	applying := through(t, pool, &around{
		after: "name: LockProviders", doAfter: func() {
			_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'a', 'https://1/')`)
			require.NoError(t, err)
		},
		before: "UPDATE gateway.ai_providers", doBefore: func() {
			_, locked = pool.Exec(t.Context(), `SELECT FROM public.ai_providers FOR UPDATE NOWAIT`)
		},
	})
	applied, err := applyOne(t, applying, atURL("https://2/"))
	require.NoError(t, err)
	require.Equal(t, drift.ApplyUpdate, applied.Action)
	var refused *pgconn.PgError
	require.ErrorAs(t, locked, &refused)
	require.Equal(t, pgerrcode.LockNotAvailable, refused.Code)
}

// testApplyRacesRowInserted has the gateway insert a provider that the environment names for the
// first time, while the apply does.
func testApplyRacesRowInserted(t *testing.T) {
	t.Parallel()
	pool := seededWith(t, bedrock("us-east-1"))
	var applied reconcile.Applied
	err := during(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'a', 'https://1/')`, func() (err error) {
		applied, err = applyOne(t, pool, atURL("https://1/"))
		return err
	})
	require.NoError(t, err)
	require.Equal(t, drift.ApplyNothing, applied.Action)
}
