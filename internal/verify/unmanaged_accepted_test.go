package verify_test

import (
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
)

// TestUnmanagedAccepted has what was seen of a row before it was accepted recorded after that.
func TestUnmanagedAccepted(t *testing.T) {
	t.Parallel()
	t.Run("Again", testUnmanagedAcceptedAgain)
	t.Run("Observed", testUnmanagedAcceptedObserved)
	t.Run("EarlierCommits", testUnmanagedAcceptedEarlierCommits)
	t.Run("Unreadable", testUnmanagedAcceptedUnreadable)
	t.Run("NotRecorded", testUnmanagedAcceptedNotRecorded)
}

const countAcceptedRows = `SELECT count(*)::text FROM provwatch.accepted_rows`

// acceptRow accepts the row of a name.
func acceptRow(t *testing.T, pool *pgxpool.Pool, name string) {
	t.Helper()
	_, err := reconcile.Resolve(t.Context(), pool, nil, nil, reconcile.Request{Side: reconcile.Database, Unmanaged: []string{name}, Named: []string{"a"}})
	require.NoError(t, err)
}

// acceptedRow returns a database with a row that was alerted and accepted.
func acceptedRow(t *testing.T) (*pgxpool.Pool, *verify.Verifier, []provider.Desired) {
	t.Helper()
	desired := []provider.Desired{openAI("a")}
	pool, v, _ := looking(t, desired)
	id := insert(t, pool, "rogue")
	require.NoError(t, v.Verify(t.Context(), resync))
	acceptRow(t, pool, "rogue")
	require.NoError(t, v.Verify(t.Context(), hint(id)))
	require.Equal(t, []string{"1 unmanaged rogue resync", "2 resolved rogue notify"}, alerts(t, pool))
	return pool, v, desired
}

// testUnmanagedAcceptedAgain has a verification see the row disabled, while it is enabled and
// accepted again before that is recorded.
func testUnmanagedAcceptedAgain(t *testing.T) {
	t.Parallel()
	pool, v, desired := acceptedRow(t)
	traced := pool.Config()
	traced.ConnConfig.Tracer = &beforeQuery{text: "name: record ", do: func() {
		exec(t, pool, `UPDATE public.ai_providers SET enabled = true WHERE name = 'rogue'`)
		exec(t, pool, `UPDATE provwatch.accepted_rows SET accepted_at = clock_timestamp()`)
	}}
	recording, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	t.Cleanup(recording.Close)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'rogue'`)
	late := verify.New(recording, desired, drift.IgnoreCredentials, quiet, &counter{})
	late.LookForUnmanaged(drift.AlertUnmanaged)
	require.NoError(t, late.Verify(t.Context(), resync))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Len(t, alerts(t, pool), 2)
	require.Equal(t, "rogue in_sync", kinds(t, pool))
	require.Equal(t, "1", value(t, pool, countAcceptedRows))
}

// testUnmanagedAcceptedObserved has the WAL source read other values of a row, which are accepted
// before it records them.
func testUnmanagedAcceptedObserved(t *testing.T) {
	t.Parallel()
	pool, v, _ := acceptedRow(t)
	id := idOf(t, pool, "rogue")
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/' WHERE name = 'rogue'`)
	observed, err := v.Observe(t.Context(), []drift.Subject{{Row: id}})
	require.NoError(t, err)
	require.Len(t, observed, 1)
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://3/' WHERE name = 'rogue'`)
	acceptRow(t, pool, "rogue")
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := v.Record(t.Context(), tx, observed, pubsub.SourceResync)
		return err
	}))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, "rogue in_sync", kinds(t, pool))
	require.Equal(t, "1", value(t, pool, countAcceptedRows))
}

// testUnmanagedAcceptedEarlierCommits has the WAL show, after an operator has accepted a row, the
// commits that came before.
func testUnmanagedAcceptedEarlierCommits(t *testing.T) {
	t.Parallel()
	pool, v, _ := looking(t, []provider.Desired{openAI("a")})
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	id := insert(t, pool, "rogue")
	before := time.Now().Add(-time.Minute)
	acceptRow(t, pool, "rogue")
	xid := int64(0)
	commit := func(baseURL string, enabled bool, committed time.Time) {
		t.Helper()
		xid++
		row := &provider.Row{ID: id, Name: "rogue", Type: provider.OpenAI, BaseURL: baseURL, Enabled: enabled}
		observed := []verify.Observed{{
			Observation: drift.ObserveRow(hasher, row, false), Commit: &pubsub.Commit{LSN: "0/1", XID: xid, CommittedAt: committed},
		}}
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
			return err
		}))
	}
	commit("https://2/", true, before)
	commit("https://2/", false, before)
	commit("https://h/", true, before)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 unmanaged rogue database", "2 resolved rogue reverted ends 1"}, causes(t, pool))
	require.Equal(t, "rogue in_sync", kinds(t, pool))
	require.Equal(t, "1", value(t, pool, countAcceptedRows))
	commit("https://4/", true, time.Now().Add(time.Minute))
	commit("https://h/", true, time.Now().Add(time.Minute))
	require.Equal(t, "0", value(t, pool, countAcceptedRows), "it was withdrawn")
	require.Equal(t, "3 unmanaged rogue database", causes(t, pool)[2])
}

// testUnmanagedAcceptedUnreadable has the settings of an accepted row encrypted with a key that provwatch does not
// have: the acceptance holds until another column shows that the row has changed.
func testUnmanagedAcceptedUnreadable(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		pool, v, _ := looking(t, []provider.Desired{openAI("a")})
		id := insert(t, pool, "rogue")
		exec(t, pool, `UPDATE public.ai_providers SET type = 'anthropic' WHERE name = 'rogue'`)
		require.NoError(t, v.Verify(t.Context(), resync))
		acceptRow(t, pool, "rogue")
		verified := func(query string) {
			t.Helper()
			exec(t, pool, query)
			require.NoError(t, v.Verify(t.Context(), way(id)))
		}
		verified(`UPDATE public.ai_providers SET settings = 'AAAA', settings_key_id = NULL WHERE name = 'rogue'`)
		verified(`UPDATE public.ai_providers SET updated_at = now() WHERE name = 'rogue'`)
		require.Equal(t, "rogue in_sync", kinds(t, pool), name)
		verified(`UPDATE public.ai_providers SET base_url = 'https://evil/' WHERE name = 'rogue'`)
		require.Equal(t, "rogue unmanaged", kinds(t, pool), name)
		require.Equal(t, "0", value(t, pool, countAcceptedRows), name)
		require.Equal(t, "unmanaged", value(t, pool, `SELECT kind FROM provwatch.drift_alerts ORDER BY seq DESC LIMIT 1`), name)
	}
}

// testUnmanagedAcceptedNotRecorded has accepted rows of which nothing is recorded, since they are not alerted.
// One is disabled, one removed and one named by the environment: none is accepted any more.
func testUnmanagedAcceptedNotRecorded(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		desired := []provider.Desired{openAI("a")}
		pool, _, _ := looking(t, desired)
		v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
		v.LookForUnmanaged(drift.WarnUnmanaged)
		ids := []uuid.UUID{insert(t, pool, "off"), insert(t, pool, "removed"), insert(t, pool, "named"), insert(t, pool, "stays")}
		for _, name := range []string{"off", "removed", "named", "stays"} {
			acceptRow(t, pool, name)
		}
		require.NoError(t, v.Verify(t.Context(), resync))
		require.Equal(t, "4", value(t, pool, countAcceptedRows), name)
		exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'off'`)
		exec(t, pool, `DELETE FROM public.ai_providers WHERE name = 'removed'`)
		v.SetDesired([]provider.Desired{openAI("a"), openAI("named")})
		for _, id := range ids {
			require.NoError(t, v.Verify(t.Context(), way(id)))
		}
		require.Equal(t, "stays", value(t, pool, `SELECT string_agg(provider, ' ') FROM provwatch.accepted_rows`), name)
		require.NoError(t, v.Verify(t.Context(), resync))
		require.Empty(t, alerts(t, pool), name)
	}
}
