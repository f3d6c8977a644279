package verify_test

import (
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

// causes returns of each alert which side has moved, or how the drift ended.
func causes(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT concat_ws(' ', seq, kind, provider, nullif(moved, ''), nullif(how, ''), 'ends ' || resolves) FROM provwatch.drift_alerts ORDER BY seq`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

func TestCause(t *testing.T) {
	t.Parallel()
	t.Run("EachSide", testCauseEachSide)
	t.Run("Operator", testCauseOperator)
	t.Run("SeedAlone", testCauseSeedAlone)
	t.Run("WrittenMeanwhile", testCauseWrittenMeanwhile)
	t.Run("OneTransaction", testCauseOneTransaction)
	t.Run("WithoutBases", testCauseWithoutBases)
}

// testCauseEachSide has each side of a provider move, and move back.
func testCauseEachSide(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, at("a", "https://1/"))
	verified := func(desired ...provider.Desired) {
		t.Helper()
		v.SetDesired(desired)
		require.NoError(t, v.Verify(t.Context(), reload))
	}
	move := func(baseURL string) {
		t.Helper()
		exec(t, pool, `UPDATE public.ai_providers SET base_url = $1`, baseURL)
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	move("https://2/")
	move("https://1/")
	verified(at("a", "https://2/"))
	move("https://2/") // the row comes to where the environment is
	move("https://3/")
	verified(at("a", "https://3/"))
	verified(at("a", "https://4/"))
	move("https://5/")
	verified()
	exec(t, pool, `DELETE FROM public.ai_providers`)
	verified(at("a", "https://5/"))
	require.Equal(t, []string{
		"1 changed a database", "2 resolved a reverted ends 1",
		"3 changed a environment", "4 resolved a reverted ends 3",
		"5 changed a database", "6 resolved a environment_changed ends 5",
		"7 changed a environment", "8 changed a both", "9 resolved a unnamed ends 8",
		"10 missing a environment",
	}, causes(t, pool))
}

// testCauseOperator has an operator take one side, and then the other.
func testCauseOperator(t *testing.T) {
	t.Parallel()
	desired := at("a", "https://u:1@h/") // compared by digests
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired)
	move := func(baseURL string) {
		t.Helper()
		exec(t, pool, `UPDATE public.ai_providers SET base_url = $1`, baseURL)
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	move("https://2/")
	_, err := reconcile.Resolve(t.Context(), pool, nil, []provider.Desired{desired}, reconcile.Request{Side: reconcile.Environment, Credentials: drift.IgnoreCredentials})
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context(), resync))
	move("https://u:2@h/")
	move("https://u:1@h/")
	move("https://u:3@h/")
	_, err = reconcile.Resolve(t.Context(), pool, nil, []provider.Desired{desired}, reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials})
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context(), resync))
	v.SetDesired([]provider.Desired{at("a", "https://u:4@h/")})
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Equal(t, []string{
		"1 changed a database", "2 resolved a resolved_by_operator ends 1",
		"3 changed a database", "4 resolved a reverted ends 3",
		"5 changed a database", "6 resolved a accepted ends 5",
		"7 changed a environment",
	}, causes(t, pool))
}

// testCauseSeedAlone changes a row that a seed inserted and no verification has seen: the
// seed recorded what both sides agreed on. A soft-deleted row that a seed found was never
// alerted.
func testCauseSeedAlone(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	desired := []provider.Desired{at("a", "https://1/"), at("b", "https://1/"), openAI("c")}
	exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url, deleted) VALUES (gen_random_uuid(), 'openai', 'c', 'https://h/', true)`)
	for range 2 {
		_, err := seed.Seed(t.Context(), pool, desired, false, quiet)
		require.NoError(t, err)
	}
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/' WHERE name = 'a'`)
	exec(t, pool, `DELETE FROM public.ai_providers WHERE name = 'b'`)
	v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
	require.NoError(t, v.Verify(t.Context(), boot))
	exec(t, pool, `UPDATE public.ai_providers SET deleted = false WHERE name = 'c'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a database", "2 missing b database", "3 resolved c reverted"}, causes(t, pool))
}

// testCauseWrittenMeanwhile records that both sides agree, as they were read before an
// operator accepted a later difference: the operator's base stands.
func testCauseWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	desired := at("a", "https://1/")
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired)
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	recorded, err := store.On(pool).ReadRecorded(t.Context(), []string{"a"})
	require.NoError(t, err)
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/'`)
	_, err = reconcile.Resolve(t.Context(), pool, nil, []provider.Desired{desired}, reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials})
	require.NoError(t, err)
	for _, former := range []string{recorded["a"].Base.SetAt, ""} {
		stale := drift.Agreement(hasher, desired, drift.ByAgreement)
		stale.SetAt = former
		require.NoError(t, store.On(pool).SetBases(t.Context(), []store.NamedBase{{Provider: "a", Base: stale}}))
		require.Equal(t, "https://1/ https://2/", value(t, pool, `SELECT concat_ws(' ', env_base_url, db_base_url) FROM provwatch.base_pairs`))
	}
}

// testCauseOneTransaction records a drift and its end in one transaction, as the WAL source
// does with what it reads at once.
func testCauseOneTransaction(t *testing.T) {
	t.Parallel()
	desired := at("a", "https://1/")
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired)
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	id := idOf(t, pool, "a")
	var observed []verify.Observed
	for i, baseURL := range []string{"https://2/", "https://1/", "https://3/", "https://4/"} {
		row := &provider.Row{ID: id, Name: "a", Type: provider.OpenAI, BaseURL: baseURL, Enabled: true}
		commit := &pubsub.Commit{LSN: "0/1", XID: int64(i + 1), CommittedAt: time.Now()}
		observed = append(observed, verify.Observed{Observation: drift.Compare(hasher, desired, row, false), Commit: commit})
	}
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
		return err
	}))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{
		"1 changed a database", "2 resolved a reverted ends 1", "3 changed a database", "4 changed a database", "5 resolved a reverted ends 4",
	}, causes(t, pool))
}

// testCauseWithoutBases has a database without bases, as an earlier version leaves it: they
// are recorded although nothing else is news.
func testCauseWithoutBases(t *testing.T) {
	t.Parallel()
	desired := []provider.Desired{at("a", "https://1/"), at("b", "https://1/")}
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired...)
	exec(t, pool, `DELETE FROM provwatch.base_pairs`)
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/' WHERE name = 'b'`)
	require.NoError(t, verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{}).Verify(t.Context(), boot))
	require.Equal(t, "a", value(t, pool, `SELECT string_agg(provider, ' ') FROM provwatch.base_pairs`))
	before := value(t, pool, `SELECT generation::text FROM provwatch.alert_counter`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, before, value(t, pool, `SELECT generation::text FROM provwatch.alert_counter`), "nothing is news")
	require.Equal(t, []string{"1 changed b unknown"}, causes(t, pool))
}
