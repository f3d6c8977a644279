package verify_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/seed"
	"provwatch/internal/verify"
)

func TestUnmanaged(t *testing.T) {
	t.Parallel()
	t.Run("Known", testUnmanagedKnown)
	t.Run("Transitions", testUnmanagedTransitions)
	t.Run("Renamed", testUnmanagedRenamed)
	t.Run("Environment", testUnmanagedEnvironment)
	t.Run("Modes", testUnmanagedModes)
	t.Run("Warned", testUnmanagedWarned)
	t.Run("Unsupported", testUnmanagedUnsupported)
	t.Run("Dropped", testUnmanagedDropped)
	t.Run("AnotherWorkersProvider", testUnmanagedAnotherWorkersProvider)
	t.Run("Takeover", testUnmanagedTakeover)
	t.Run("HintsAreOneQuery", testUnmanagedHintsAreOneQuery)
	t.Run("Many", testUnmanagedMany)
	t.Run("Accepted", testUnmanagedAccepted)
	t.Run("Replaced", testUnmanagedReplaced)
	t.Run("NeverRecorded", testUnmanagedNeverRecorded)
}

// testUnmanagedReplaced has a row take the name of another one, which is soft-deleted: the drift of
// one ends before the other's begins.
func testUnmanagedReplaced(t *testing.T) {
	t.Parallel()
	least, greatest := uuid.UUID{15: 1}, uuid.Max
	for _, ids := range [][2]uuid.UUID{{least, greatest}, {greatest, least}} {
		for name, request := range map[string]verify.Request{"resync": resync, "hints": hint(ids[0], ids[1])} {
			pool, v, _ := looking(t, []provider.Desired{openAI("a")})
			add := func(id uuid.UUID) {
				exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', 'rogue', 'https://h/')`, id)
			}
			add(ids[0])
			require.NoError(t, v.Verify(t.Context(), resync))
			exec(t, pool, `UPDATE public.ai_providers SET deleted = true WHERE name = 'rogue'`)
			add(ids[1])
			require.NoError(t, v.Verify(t.Context(), request))
			require.Equal(t, "unmanaged "+ids[0].String()+", resolved "+ids[0].String()+", unmanaged "+ids[1].String(),
				value(t, pool, `SELECT string_agg(kind || ' ' || provider_id, ', ' ORDER BY seq) FROM provwatch.drift_alerts`), name)
		}
	}
}

// looking returns a database in which the providers are seeded and rows of the names given are
// there beside them, and a verifier that has verified everything once.
func looking(t *testing.T, desired []provider.Desired, beside ...string) (*pgxpool.Pool, *verify.Verifier, *counter) {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, desired, false, quiet)
	require.NoError(t, err)
	for _, name := range beside {
		insert(t, pool, name)
	}
	metrics := &counter{}
	v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, metrics)
	v.LookForUnmanaged(drift.AlertUnmanaged)
	require.NoError(t, v.Verify(t.Context(), boot))
	require.Empty(t, alerts(t, pool))
	return pool, v, metrics
}

// insert inserts an enabled row.
func insert(t *testing.T, pool *pgxpool.Pool, name string) uuid.UUID {
	t.Helper()
	exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', $1, 'https://h/')`, name)
	return idOf(t, pool, name)
}

// kinds returns what is recorded of unmanaged rows, by name.
func kinds(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return value(t, pool, `SELECT coalesce(string_agg(provider || ' ' || kind, ', ' ORDER BY provider), '') FROM provwatch.unmanaged_rows`)
}

func hint(ids ...uuid.UUID) verify.Request {
	return verify.Request{ProviderIDs: ids, Source: pubsub.SourceNotify}
}

// ways are how a change is verified: by a resync, and by a hint.
var ways = map[string]func(id uuid.UUID) verify.Request{
	"resync": func(uuid.UUID) verify.Request { return resync },
	"hint":   func(id uuid.UUID) verify.Request { return hint(id) },
}

// testUnmanagedKnown starts beside many rows: they are counted, and a change of one is no alert
// until it is disabled.
func testUnmanagedKnown(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, v, metrics := looking(t, []provider.Desired{openAI("a")}, "one", "two", "three")
			exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url, enabled) VALUES (gen_random_uuid(), 'openai', 'off', 'https://h/', false)`)
			one, off := idOf(t, pool, "one"), idOf(t, pool, "off")
			verified := func(id uuid.UUID, query string) {
				t.Helper()
				exec(t, pool, query)
				require.NoError(t, v.Verify(t.Context(), way(id)))
			}
			verified(off, `SELECT`)
			require.Equal(t, "one known, three known, two known", kinds(t, pool))
			require.Equal(t, 3, metrics.unmanaged)
			verified(one, `UPDATE public.ai_providers SET base_url = 'https://other/' WHERE name = 'one'`)
			verified(one, `UPDATE public.ai_providers SET name = 'uno' WHERE name = 'one'`)
			require.Empty(t, alerts(t, pool))
			verified(one, `UPDATE public.ai_providers SET enabled = false WHERE name = 'uno'`)
			require.Empty(t, alerts(t, pool))
			require.Equal(t, 2, metrics.unmanaged)
			verified(one, `UPDATE public.ai_providers SET enabled = true WHERE name = 'uno'`)
			verified(off, `UPDATE public.ai_providers SET enabled = true WHERE name = 'off'`)
			require.Equal(t, []string{"1 unmanaged uno", "2 unmanaged off"}, withoutSource(alerts(t, pool)))
			require.Equal(t, map[drift.Kind]int{drift.Unmanaged: 2}, metrics.drifting)
			require.Equal(t, 4, metrics.unmanaged)

			// Another worker begins where this one has left it.
			again := verify.New(pool, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, metrics)
			again.LookForUnmanaged(drift.AlertUnmanaged)
			require.NoError(t, again.Verify(t.Context(), boot))
			require.Len(t, alerts(t, pool), 2)
			require.Equal(t, map[drift.Kind]int{drift.Unmanaged: 2}, metrics.drifting)
			require.Equal(t, 4, metrics.unmanaged)
		})
	}
}

// withoutSource returns the alerts without their last word.
func withoutSource(alerts []string) []string {
	list := make([]string, len(alerts))
	for i, a := range alerts {
		list[i] = a[:strings.LastIndexByte(a, ' ')]
	}
	return list
}

// testUnmanagedTransitions makes a row, changes it, and ends its drift in each way.
func testUnmanagedTransitions(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, v, metrics := looking(t, []provider.Desired{openAI("a")})
			id := insert(t, pool, "rogue")
			step := func(query string) {
				t.Helper()
				exec(t, pool, query, id)
				for range 2 { // a second look is no other alert
					require.NoError(t, v.Verify(t.Context(), way(id)))
				}
			}
			step(`UPDATE public.ai_providers SET base_url = 'https://user:q7zleak@h/v1' WHERE id = $1`)
			step(`UPDATE public.ai_providers SET base_url = 'https://other/', name = 'renamed' WHERE id = $1`)
			require.Equal(t, "rogue unmanaged", kinds(t, pool), "the name is that of the alert")
			require.Equal(t, 1, metrics.unmanaged)
			step(`UPDATE public.ai_providers SET enabled = false WHERE id = $1`)
			require.Empty(t, metrics.drifting)
			require.Zero(t, metrics.unmanaged)
			step(`UPDATE public.ai_providers SET enabled = true WHERE id = $1`)
			step(`UPDATE public.ai_providers SET deleted = true WHERE id = $1`)
			step(`UPDATE public.ai_providers SET deleted = false WHERE id = $1`)
			step(`DELETE FROM public.ai_providers WHERE id = $1`)
			require.Empty(t, kinds(t, pool))
			require.Equal(t, []string{
				"1 unmanaged rogue database", "2 resolved rogue reverted ends 1",
				"3 unmanaged renamed database", "4 resolved renamed reverted ends 3",
				"5 unmanaged renamed database", "6 resolved renamed reverted ends 5",
			}, causes(t, pool))
			require.Equal(t, id.String()+" 6", value(t, pool, `SELECT provider_id || ' ' || count(*) FROM provwatch.drift_alerts WHERE unmanaged AND env_hash = '' GROUP BY provider_id`))
			require.JSONEq(t, `[{"name": "type", "env": "", "db": "openai"}, {"name": "base_url", "env": "", "db": "https://h/v1"}]`,
				value(t, pool, `SELECT fields::text FROM provwatch.drift_alerts WHERE seq = 1`))
			require.Equal(t, "t", value(t, pool, `SELECT left((db_hash LIKE 'hmac:%')::text, 1) FROM provwatch.drift_alerts WHERE seq = 1`))
		})
	}
}

// testUnmanagedRenamed gives the rows of providers other names. Each is one alert, that the
// provider is missing, or none, and the row is known.
func testUnmanagedRenamed(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, v, _ := looking(t, []provider.Desired{openAI("a"), openAI("b"), openAI("c")})
			a, b := idOf(t, pool, "a"), idOf(t, pool, "b")
			verified := func(ids ...uuid.UUID) {
				t.Helper()
				request := way(a)
				if !request.All {
					request.ProviderIDs = ids
				}
				require.NoError(t, v.Verify(t.Context(), request))
				require.NoError(t, v.Verify(t.Context(), resync))
			}
			exec(t, pool, `UPDATE public.ai_providers SET name = 'away' WHERE id = $1`, a)
			verified(a)
			require.Equal(t, "away known", kinds(t, pool))
			// Another row takes the name, and the row is still known.
			exec(t, pool, `UPDATE public.ai_providers SET name = 'b-away' WHERE id = $1`, b)
			verified(b, insert(t, pool, "a"), insert(t, pool, "b"))
			require.Equal(t, "away known, b-away known", kinds(t, pool))
			want := []string{"1 missing a to away", "2 resolved a"}
			require.Equal(t, want, renames(t, pool))
			// Two rows swap their names.
			for _, names := range [][2]string{{"a", "x"}, {"b", "a"}, {"x", "b"}} {
				exec(t, pool, `UPDATE public.ai_providers SET name = $2 WHERE name = $1`, names[0], names[1])
			}
			verified(idOf(t, pool, "a"), idOf(t, pool, "b"))
			// Enabling it again is a transition.
			exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE id = $1`, b)
			verified(b)
			exec(t, pool, `UPDATE public.ai_providers SET enabled = true WHERE id = $1`, b)
			verified(b)
			require.Equal(t, append(want, "3 unmanaged b-away"), renames(t, pool))
			// A row that was alerted becomes that of a provider.
			exec(t, pool, `DELETE FROM public.ai_providers WHERE name = 'c'`)
			exec(t, pool, `UPDATE public.ai_providers SET name = 'c' WHERE id = $1`, b)
			verified(b)
			require.Equal(t, append(want, "3 unmanaged b-away", "4 resolved b-away"), renames(t, pool))
			require.Equal(t, "away known", kinds(t, pool))
		})
	}
}

// testUnmanagedHintsAreOneQuery counts the statements of verifications with nothing new.
func testUnmanagedHintsAreOneQuery(t *testing.T) {
	t.Parallel()
	pool, _, metrics := looking(t, []provider.Desired{openAI("a")}, "old")
	var statements int
	config := pool.Config()
	config.ConnConfig.Tracer = queryCounter{&statements}
	counted, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer counted.Close()
	v := verify.New(counted, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, metrics)
	v.LookForUnmanaged(drift.AlertUnmanaged)
	for _, request := range []verify.Request{resync, hint(idOf(t, pool, "old")), hint(idOf(t, pool, "a"), idOf(t, pool, "old"))} {
		require.NoError(t, v.Verify(t.Context(), request))
		statements = 0
		require.NoError(t, v.Verify(t.Context(), request))
		require.Equal(t, 1, statements)
	}
}

// testUnmanagedMany makes more rows than are read and recorded at a time, and removes them.
func testUnmanagedMany(t *testing.T) {
	t.Parallel()
	pool, v, metrics := looking(t, []provider.Desired{openAI("a")}, "old")
	exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url) SELECT gen_random_uuid(), 'openai', 'rogue-' || n, 'https://h/' FROM generate_series(1, 2500) AS n`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, "2500 2500 1 2500", value(t, pool, `SELECT concat_ws(' ', count(*), count(DISTINCT provider_id), min(seq), max(seq)) FROM provwatch.drift_alerts WHERE kind = 'unmanaged'`))
	require.Equal(t, map[drift.Kind]int{drift.Unmanaged: 2500}, metrics.drifting)
	require.Equal(t, 2501, metrics.unmanaged)
	exec(t, pool, `DELETE FROM public.ai_providers WHERE name LIKE 'rogue-%'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, "2500", value(t, pool, `SELECT count(*)::text FROM provwatch.drift_alerts r JOIN provwatch.drift_alerts a ON a.seq = r.resolves AND a.provider_id = r.provider_id WHERE r.how = 'reverted'`))
	require.Empty(t, metrics.drifting)
	require.Equal(t, "old known", kinds(t, pool))
}

// testUnmanagedAccepted accepts a row, until its values change.
func testUnmanagedAccepted(t *testing.T) {
	t.Parallel()
	desired := []provider.Desired{openAI("a")}
	pool, v, metrics := looking(t, desired)
	id := insert(t, pool, "rogue")
	accept := func() {
		t.Helper()
		_, err := reconcile.Resolve(t.Context(), pool, nil, nil, reconcile.Request{Side: reconcile.Database, Unmanaged: []string{"rogue"}, Named: []string{"a"}})
		require.NoError(t, err)
	}
	verified := func(query string) {
		t.Helper()
		exec(t, pool, query)
		require.NoError(t, v.Verify(t.Context(), hint(id)))
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	verified(`SELECT`)
	accept()
	verified(`SELECT`)
	require.Empty(t, metrics.drifting)
	require.Equal(t, 1, metrics.unmanaged)
	verified(`UPDATE public.ai_providers SET name = 'renamed' WHERE name = 'rogue'`) // not one of its values
	verified(`UPDATE public.ai_providers SET name = 'rogue' WHERE name = 'renamed'`)
	verified(`UPDATE public.ai_providers SET base_url = 'https://other/' WHERE name = 'rogue'`)
	require.Equal(t, "0", value(t, pool, `SELECT count(*)::text FROM provwatch.accepted_rows`), "it is withdrawn")
	accept()
	verified(`SELECT`)
	// Disabling it ends the acceptance, and is no alert.
	verified(`UPDATE public.ai_providers SET enabled = false WHERE name = 'rogue'`)
	verified(`UPDATE public.ai_providers SET enabled = true WHERE name = 'rogue'`)
	require.Equal(t, []string{
		"1 unmanaged rogue database", "2 resolved rogue accepted ends 1",
		"3 unmanaged rogue database", "4 resolved rogue accepted ends 3",
		"5 unmanaged rogue database",
	}, causes(t, pool))
}
