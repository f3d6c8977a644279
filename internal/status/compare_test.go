package status_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/observe"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/seed"
	"provwatch/internal/status"
	"provwatch/internal/verify"
)

func TestComparison(t *testing.T) {
	t.Parallel()
	t.Run("ChangedSinceVerification", testComparisonChangedSinceVerification)
	t.Run("AcceptedWithoutHashKey", testComparisonAcceptedWithoutHashKey)
	t.Run("NotComparable", testComparisonNotComparable)
	t.Run("CredentialCounts", testComparisonCredentialCounts)
}

// testComparisonChangedSinceVerification compares a page with rows that no worker has
// verified since.
func testComparisonChangedSinceVerification(t *testing.T) {
	t.Parallel()
	pool, environment := lived(t)
	_, err := pool.Exec(t.Context(), `
		UPDATE public.ai_providers SET enabled = true WHERE name IN ('accepted', 'disabled');
		UPDATE public.ai_providers SET deleted = true WHERE name = 'synced'`)
	require.NoError(t, err)
	environment = append(environment, desired("unnamed", "new")...)
	e := status.Environment{Desired: status.EnvironmentOf(environment).Desired}
	s, err := status.Collect(t.Context(), pool, noKeys, e, every)
	require.NoError(t, err)
	require.Equal(t, []string{
		livedSummaries[0],
		"in_sync disabled ",
		livedSummaries[2],
		livedSummaries[3],
		"unverified unnamed changed base_url=https://unnamed.example/v1/|https://unnamed.example/",
		"in_sync accepted ",
		"deleted synced deleted deleted=false|true",
	}, summaries(s))
	requireCountsOfListed(t, s)

	s, err = status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(environment), every)
	require.NoError(t, err)
	require.Equal(t, 2, s.Counts[status.Unverified])
	require.Zero(t, s.Counts[status.Unmanaged])
	require.Contains(t, summaries(s), "unverified new missing")
	requireCountsOfListed(t, s)

	// A provider that is not on the page is counted as it was recorded.
	query := every
	query.Search = "disabled"
	s, err = status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(environment), query)
	require.NoError(t, err)
	require.Equal(t, []string{"in_sync disabled "}, summaries(s))
	require.Equal(t, 2, s.Counts[status.InSync], "that one, and one that was recorded so")
	require.Equal(t, 1, s.Counts[status.SoftDeleted])
}

// requireCountsOfListed requires that a status counts its providers, all of which it lists, in
// the states that it lists them with.
func requireCountsOfListed(t *testing.T, s status.Status) {
	t.Helper()
	require.False(t, s.MoreProviders)
	counts := map[status.State]int{}
	for _, state := range status.States {
		counts[state] = 0
	}
	for _, p := range s.Providers {
		counts[p.State]++
	}
	require.Equal(t, counts, s.Counts)
}

// testComparisonAcceptedWithoutHashKey collects base URLs with passwords, as a role that
// can compare and cannot read the key of digests.
func testComparisonAcceptedWithoutHashKey(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	environment := desired("accepted", "drifts", "synced")
	for i := range environment {
		environment[i].BaseURL = "https://svc:password@" + environment[i].Name + ".example/v1/"
	}
	_, err := seed.Seed(t.Context(), pool, environment, false, quiet)
	require.NoError(t, err)
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), string(script))
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `
		REVOKE SELECT (key) ON provwatch.hash_key FROM provwatch_notify;
		UPDATE public.ai_providers SET base_url = 'https://svc:other@host.example/v1/' WHERE name <> 'synced'`)
	require.NoError(t, err)
	_, err = reconcile.Resolve(t.Context(), pool, noKeys, environment[:1], accepting)
	require.NoError(t, err)
	v := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	require.NoError(t, v.Verify(t.Context(), full))
	config := pool.Config().ConnConfig
	config.RuntimeParams["role"] = "provwatch_notify"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	told := func() []string {
		s, err := status.Collect(t.Context(), conn, noKeys, status.EnvironmentOf(environment), every)
		require.NoError(t, err)
		return summaries(s)
	}
	require.Equal(t, []string{
		"drifted drifts changed base_url=https://drifts.example/v1/|https://host.example/v1/",
		"accepted accepted changed base_url=https://accepted.example/v1/|https://host.example/v1/",
		"in_sync synced ",
	}, told())

	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://plain.example/' WHERE name = 'accepted'`)
	require.NoError(t, err)
	require.Contains(t, told(), "drifted accepted changed base_url=https://accepted.example/v1/|https://plain.example/")

	// And the other way round.
	_, err = reconcile.Resolve(t.Context(), pool, noKeys, environment[:1], accepting)
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context(), full))
	require.Contains(t, told(), "accepted accepted changed base_url=https://accepted.example/v1/|https://plain.example/")
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://svc:other@host.example/v1/' WHERE name = 'accepted'`)
	require.NoError(t, err)
	require.Contains(t, told(), "drifted accepted changed base_url=https://accepted.example/v1/|https://host.example/v1/")
}

// testComparisonNotComparable encrypts the settings of a row that was in sync.
func testComparisonNotComparable(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	environment := desired("one", "two")
	environment[1].Type, environment[1].Keys, environment[1].BaseURL = provider.Anthropic, nil, ""
	environment[1].Bedrock = &provider.Bedrock{Region: "us-east-1"}
	_, err := seed.Seed(t.Context(), pool, environment, false, quiet, seed.WithKeys(dbcrypttest.NewRing(t, key)))
	require.NoError(t, err)
	v := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	v.Decrypt(dbcrypttest.NewRing(t, key))
	require.NoError(t, v.Verify(t.Context(), full))
	reason := "cannot be compared: encrypted with key " + key.Digest() + ", which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS"
	collected := func(e status.Environment, query status.Query, keys *dbcrypt.Ring) status.Status {
		s, err := status.Collect(t.Context(), pool, keys, e, query)
		require.NoError(t, err)
		return s
	}
	known := status.EnvironmentOf(environment)
	require.Equal(t, []string{"in_sync one ", "in_sync two "}, summaries(collected(known, every, dbcrypttest.NewRing(t, key))))
	require.Equal(t, []string{"in_sync one ", "not_comparable two  settings=bedrock|" + reason}, summaries(collected(known, every, noKeys)), "compared as they are now")

	// As a leader without the key has recorded it.
	v.Decrypt(noKeys)
	require.NoError(t, v.Verify(t.Context(), full))
	for _, e := range []status.Environment{known, {Desired: known.Desired}, {}} {
		s := collected(e, every, noKeys)
		field := "row=|"
		if e.Desired != nil {
			field = "settings=bedrock|"
		}
		require.Equal(t, []string{"not_comparable two  " + field + reason, "in_sync one "}, summaries(s))
		require.Equal(t, []int{1, 1, 2}, []int{s.Counts[status.InSync], s.Counts[status.NotComparable], s.Total()})
		alone := every
		alone.States = []status.State{status.NotComparable}
		require.Len(t, summaries(collected(e, alone, noKeys)), 1)
	}
	// The next leader has the key, and knows what is recorded alone.
	next := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	next.Decrypt(dbcrypttest.NewRing(t, key))
	require.NoError(t, next.Verify(t.Context(), full))
	s := collected(status.Environment{}, every, noKeys)
	require.Equal(t, []string{"in_sync one ", "in_sync two "}, summaries(s))
	require.Zero(t, s.Counts[status.NotComparable])

	// Nothing stays of a provider that the environment no longer names, or of a row that was
	// damaged before the first record of it.
	_, err = pool.Exec(t.Context(), `TRUNCATE provwatch.drift_state`)
	require.NoError(t, err)
	v.Decrypt(noKeys)
	v.SetDesired(environment)
	require.NoError(t, v.Verify(t.Context(), full))
	require.Equal(t, []string{"not_comparable two  row=|" + reason, "in_sync one "}, summaries(collected(status.Environment{}, every, noKeys)))
	v.SetDesired(environment[:1])
	require.NoError(t, v.Verify(t.Context(), full))
	require.Equal(t, []string{"unmanaged two ", "in_sync one "}, summaries(collected(status.Environment{}, every, noKeys)))
}

func testComparisonCredentialCounts(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	environment := desired("one")
	_, err := seed.Seed(t.Context(), pool, environment, false, quiet)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_provider_keys SET api_key = 'sk-another-secret-key-0123456789'`)
	require.NoError(t, err)
	v := verify.New(pool, environment, drift.AlertCredentials, quiet, observe.NewMetrics("test"))
	require.NoError(t, v.Verify(t.Context(), full))
	want := "drifted one changed api_keys=1, of these 1 not in the database|1, of these 1 not in the environment"
	s, err := status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(environment), every)
	require.NoError(t, err)
	require.Equal(t, []string{want}, summaries(s))
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, err)
	s, err = status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(environment), every)
	require.NoError(t, err)
	require.Equal(t, "drifted one disabled enabled=true|false"+want[len("drifted one changed"):], summary(s.Providers[0]))

	// What is recorded of credentials stands until they are compared, as it does for a worker.
	environment[0].BaseURL = "https://moved.example/"
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET enabled = true, base_url = 'https://moved.example/'`)
	require.NoError(t, err)
	s, err = status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(environment), every)
	require.NoError(t, err)
	require.Equal(t, []string{want}, summaries(s))
}
