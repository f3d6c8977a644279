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
	"provwatch/internal/verify"
)

// renames returns of each alert the name that the row was given.
func renames(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT concat_ws(' ', seq, kind, provider, 'to ' || nullif(renamed_to, '')) FROM provwatch.drift_alerts ORDER BY seq`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// TestRenamed gives the row of a provider other names. The alert that it is missing names the
// first of them, in a verification of everything and in a hinted one.
func TestRenamed(t *testing.T) {
	t.Parallel()
	for name, hinted := range map[string]bool{"Full": false, "Hinted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
			id := idOf(t, pool, "a")
			verified := func(more ...uuid.UUID) {
				t.Helper()
				request := resync
				if hinted {
					request = verify.Request{ProviderIDs: append(more, id), Source: pubsub.SourceNotify}
				}
				require.NoError(t, v.Verify(t.Context(), request))
			}
			rename := func(to string) {
				t.Helper()
				exec(t, pool, `UPDATE public.ai_providers SET name = $1 WHERE id = $2`, to, id)
				verified()
			}
			rename("away")
			rename("further") // no other alert
			rename("a")
			want := []string{"1 missing a to away", "2 resolved a"}
			require.Equal(t, want, renames(t, pool))

			// Another row takes the name at once, so that nothing is missing.
			exec(t, pool, `UPDATE public.ai_providers SET name = 'away' WHERE id = $1`, id)
			exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'a', 'https://h/')`)
			verified(idOf(t, pool, "a"))
			require.Equal(t, want, renames(t, pool))

			// A soft-deleted row stands for no provider of its name, nor does a removed row.
			exec(t, pool, `UPDATE public.ai_providers SET name = 'a-gone', deleted = true WHERE name = 'a'`)
			exec(t, pool, `DELETE FROM public.ai_providers WHERE name = 'b'`)
			require.NoError(t, v.Verify(t.Context(), resync))
			require.Equal(t, append(want, "3 missing a", "4 missing b"), renames(t, pool))
		})
	}
	t.Run("Pending", testRenamedPending)
	t.Run("EnabledAgain", testRenamedEnabledAgain)
	t.Run("NeverComparable", testRenamedNeverComparable)
	t.Run("WhileIgnored", testRenamedWhileIgnored)
}

// testRenamedEnabledAgain disables and enables a row that was renamed away: it is known until then,
// whether the provider's alert is pending or not.
func testRenamedEnabledAgain(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, time.Hour} {
		for name, way := range ways {
			pool, v, _ := looking(t, []provider.Desired{openAI("a")})
			v.AlertAfter(after)
			id := idOf(t, pool, "a")
			verified := func(query string) {
				t.Helper()
				exec(t, pool, query)
				require.NoError(t, v.Verify(t.Context(), way(id)))
			}
			verified(`UPDATE public.ai_providers SET name = 'away'`)
			verified(`SELECT`)
			require.Equal(t, "away known", kinds(t, pool), name)
			verified(`UPDATE public.ai_providers SET enabled = false`)
			require.Empty(t, kinds(t, pool), name)
			verified(`UPDATE public.ai_providers SET enabled = true`)
			if after > 0 {
				require.Equal(t, "away "+string(way(id).Source), pendingRows(t, pool), name)
			} else {
				require.Equal(t, "away unmanaged", kinds(t, pool), name)
			}
		}
	}
}

// testRenamedNeverComparable gives another name to the row of a provider that could never be compared,
// so that nothing is recorded of the row. It is known until it is disabled.
func testRenamedNeverComparable(t *testing.T) {
	t.Parallel()
	for name, verified := range rowWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, v, _ := looking(t, []provider.Desired{openAI("a")})
			id := insert(t, pool, "unreadable")
			exec(t, pool, `UPDATE public.ai_providers SET type = 'anthropic', settings = '{' WHERE name = 'unreadable'`)
			v.SetDesired([]provider.Desired{openAI("a"), {Name: "unreadable", Type: provider.Anthropic, BaseURL: "https://h/"}})
			require.NoError(t, v.Verify(t.Context(), reload))
			require.NoError(t, v.Verify(t.Context(), resync))
			require.Equal(t, "1", value(t, pool, `SELECT count(*)::text FROM provwatch.not_comparable`))
			step := func(query string) {
				t.Helper()
				exec(t, pool, query)
				verified(t, pool, v, id)
			}
			step(`UPDATE public.ai_providers SET name = 'away' WHERE name = 'unreadable'`)
			require.Equal(t, "away known", kinds(t, pool))
			require.NoError(t, v.Verify(t.Context(), resync))
			require.Equal(t, "away known", kinds(t, pool))
			step(`UPDATE public.ai_providers SET enabled = false WHERE name = 'away'`)
			require.Empty(t, kinds(t, pool))
			step(`UPDATE public.ai_providers SET enabled = true WHERE name = 'away'`)
			require.Equal(t, "away unmanaged", kinds(t, pool))
		})
	}
	// Of a row that was disabled before the worker saw its other name, enabling it is a transition.
	for name, elsewhere := range map[string]func(pool *pgxpool.Pool, v *verify.Verifier){
		"another leader": func(pool *pgxpool.Pool, v *verify.Verifier) {
			exec(t, pool, `UPDATE public.ai_providers SET name = 'away', enabled = false WHERE name = 'unreadable'`)
			exec(t, pool, `UPDATE public.ai_providers SET enabled = true WHERE name = 'away'`)
			takeOver(t, pool, v)
		},
		"another row": func(pool *pgxpool.Pool, v *verify.Verifier) {
			exec(t, pool, `UPDATE public.ai_providers SET name = 'away', enabled = false WHERE name = 'unreadable'`)
			insert(t, pool, "unreadable")
			exec(t, pool, `UPDATE public.ai_providers SET type = 'anthropic', settings = '{' WHERE name = 'unreadable'`)
			require.NoError(t, v.Verify(t.Context(), resync))
			exec(t, pool, `UPDATE public.ai_providers SET enabled = true WHERE name = 'away'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool, v, _ := looking(t, []provider.Desired{openAI("a")})
			insert(t, pool, "unreadable")
			exec(t, pool, `UPDATE public.ai_providers SET type = 'anthropic', settings = '{' WHERE name = 'unreadable'`)
			v.SetDesired([]provider.Desired{openAI("a"), {Name: "unreadable", Type: provider.Anthropic, BaseURL: "https://h/"}})
			require.NoError(t, v.Verify(t.Context(), reload))
			elsewhere(pool, v)
			require.NoError(t, v.Verify(t.Context(), resync))
			require.Equal(t, "away unmanaged", kinds(t, pool))
		})
	}
	t.Run("DisabledMeanwhile", func(t *testing.T) {
		t.Parallel()
		pool, v, _ := looking(t, []provider.Desired{openAI("a")})
		id := insert(t, pool, "unreadable")
		exec(t, pool, `UPDATE public.ai_providers SET type = 'anthropic', settings = '{' WHERE name = 'unreadable'`)
		v.SetDesired([]provider.Desired{openAI("a"), {Name: "unreadable", Type: provider.Anthropic, BaseURL: "https://h/"}})
		require.NoError(t, v.Verify(t.Context(), reload))
		exec(t, pool, `UPDATE public.ai_providers SET name = 'away', enabled = false WHERE name = 'unreadable'`)
		require.NoError(t, v.Verify(t.Context(), resync))
		exec(t, pool, `UPDATE public.ai_providers SET enabled = true WHERE name = 'away'`)
		require.NoError(t, v.Verify(t.Context(), hint(id)))
		require.Equal(t, "away unmanaged", kinds(t, pool))
	})
}

// testRenamedWhileIgnored gives the row of a provider another name while unmanaged rows are ignored:
// the environment named it before.
func testRenamedWhileIgnored(t *testing.T) {
	t.Parallel()
	desired := []provider.Desired{openAI("a")}
	for name, verified := range map[string]func(*pgxpool.Pool, *verify.Verifier){
		"resync": func(_ *pgxpool.Pool, v *verify.Verifier) { require.NoError(t, v.Verify(t.Context(), resync)) },
		"commit": func(pool *pgxpool.Pool, v *verify.Verifier) {
			hasher, err := v.Hasher(t.Context())
			require.NoError(t, err)
			o := drift.Compare(hasher, desired[0], nil, false)
			o.RenamedTo = "away"
			require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
				_, err := v.Record(t.Context(), tx, []verify.Observed{{Observation: o, Commit: &pubsub.Commit{LSN: "0/1", XID: 1, CommittedAt: time.Now()}}}, pubsub.SourceWAL)
				return err
			}))
		},
	} {
		pool, v, _ := looking(t, desired)
		ignoring := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
		ignoring.LookForUnmanaged(drift.IgnoreUnmanaged)
		exec(t, pool, `UPDATE public.ai_providers SET name = 'away'`)
		verified(pool, ignoring)
		require.Equal(t, []string{"1 missing a to away"}, renames(t, pool), name)
		require.NoError(t, v.Verify(t.Context(), resync))
		require.Equal(t, "a known", kinds(t, pool), name)
		require.Len(t, alerts(t, pool), 1, name)
	}
}

// testRenamedPending holds the alert that a provider is missing whose row was renamed. The commit
// that ends the drift shows that it has lasted.
func testRenamedPending(t *testing.T) {
	t.Parallel()
	pool, v, _ := looking(t, []provider.Desired{openAI("a")})
	v.AlertAfter(time.Hour)
	exec(t, pool, `UPDATE public.ai_providers SET name = 'away' WHERE name = 'a'`)
	for range 2 {
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	require.Equal(t, "away known", kinds(t, pool))
	require.Equal(t, []string{"missing a resync"}, pending(t, pool))
	require.Empty(t, alerts(t, pool))
	laterBy(t, pool, 60)
	insert(t, pool, "a")
	recordCommits(t, pool, v, 1, openAI("a"), "https://h/")
	require.Equal(t, []string{"1 missing a to away", "2 resolved a"}, renames(t, pool))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Len(t, alerts(t, pool), 2)
	require.Equal(t, "away known", kinds(t, pool))
}
