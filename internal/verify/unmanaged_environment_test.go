package verify_test

import (
	"bytes"
	"log/slog"
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
	"provwatch/internal/seed"
	"provwatch/internal/verify"
)

// testUnmanagedEnvironment has the environment begin and cease to name rows.
func testUnmanagedEnvironment(t *testing.T) {
	t.Parallel()
	pool, v, metrics := looking(t, []provider.Desired{openAI("a"), openAI("b"), openAI("off")})
	names := func(names ...string) {
		t.Helper()
		var desired []provider.Desired
		for _, name := range names {
			desired = append(desired, openAI(name))
		}
		v.SetDesired(desired)
		require.NoError(t, v.Verify(t.Context(), reload))
	}
	insert(t, pool, "rogue")
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'off'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	names("a", "b", "rogue")
	require.Equal(t, "", kinds(t, pool))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://other/' WHERE name = 'b'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	names("a")
	require.Equal(t, "b known, rogue known", kinds(t, pool))
	require.Equal(t, 2, metrics.unmanaged)
	require.NoError(t, v.Verify(t.Context(), resync))
	names("a", "b", "rogue")
	require.Equal(t, "", kinds(t, pool))
	names("a")
	// A row that was disabled when the environment dropped its provider is not known.
	exec(t, pool, `UPDATE public.ai_providers SET enabled = true WHERE name = 'off'`)
	require.NoError(t, v.Verify(t.Context(), hint(idOf(t, pool, "off"))))
	require.Equal(t, []string{
		"1 unmanaged rogue database", "2 disabled off database",
		"3 resolved rogue environment_changed ends 1", "4 resolved off unnamed ends 2",
		"5 changed b database", "6 resolved b unnamed ends 5",
		"7 changed b database", "8 resolved b unnamed ends 7",
		"9 unmanaged off database",
	}, causes(t, pool))
}

// testUnmanagedNeverRecorded has the environment cease to name providers of which no state was ever
// recorded: one could not be compared, and the drift of another is pending. Their rows are known.
func testUnmanagedNeverRecorded(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		pool, _ := pgtest.NewPool(t)
		_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("a")}, false, quiet)
		require.NoError(t, err)
		unreadable, late := insert(t, pool, "unreadable"), insert(t, pool, "late")
		exec(t, pool, `UPDATE public.ai_providers SET type = 'anthropic', settings = '{' WHERE name = 'unreadable'`)
		exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/' WHERE name = 'late'`)
		desired := []provider.Desired{openAI("a"), openAI("late"), {Name: "unreadable", Type: provider.Anthropic, BaseURL: "https://h/"}}
		v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
		v.LookForUnmanaged(drift.AlertUnmanaged)
		v.AlertAfter(time.Hour)
		require.NoError(t, v.Verify(t.Context(), boot))
		require.Equal(t, "unreadable", value(t, pool, `SELECT string_agg(provider, ' ') FROM provwatch.not_comparable`))
		require.Equal(t, []string{"changed late boot"}, pending(t, pool))
		v.SetDesired([]provider.Desired{openAI("a")})
		for _, id := range []uuid.UUID{unreadable, late} {
			require.NoError(t, v.Verify(t.Context(), way(id)))
		}
		require.Equal(t, "late known, unreadable known", kinds(t, pool), name)
		v.AlertAfter(0)
		require.NoError(t, v.Verify(t.Context(), resync))
		require.Equal(t, "late known, unreadable known", kinds(t, pool), name)
		require.Empty(t, alerts(t, pool), name)
	}
}

// testUnmanagedModes changes the mode: it ends what was alerted, and a row that was there at the
// first verification stays known.
func testUnmanagedModes(t *testing.T) {
	t.Parallel()
	desired := []provider.Desired{openAI("a")}
	pool, _, _ := looking(t, desired, "old")
	insert(t, pool, "rogue")
	run := func(mode drift.UnmanagedMode, wantUnmanaged int) {
		t.Helper()
		metrics := &counter{}
		v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, metrics)
		v.LookForUnmanaged(mode)
		require.NoError(t, v.Verify(t.Context(), boot))
		require.NoError(t, v.Verify(t.Context(), hint(idOf(t, pool, "rogue"))))
		require.NoError(t, v.Verify(t.Context(), resync))
		require.Equal(t, wantUnmanaged, metrics.unmanaged)
		if mode != drift.AlertUnmanaged {
			require.Empty(t, metrics.drifting)
		}
	}
	run(drift.AlertUnmanaged, 2)
	run(drift.IgnoreUnmanaged, 0)
	run("", 0)
	run(drift.AlertUnmanaged, 2)
	run(drift.WarnUnmanaged, 2)
	run(drift.AlertUnmanaged, 2)
	require.Equal(t, []string{
		"1 unmanaged rogue database", "2 resolved rogue environment_changed ends 1",
		"3 unmanaged rogue database", "4 resolved rogue environment_changed ends 3",
		"5 unmanaged rogue database",
	}, causes(t, pool))
	require.Equal(t, "old known, rogue unmanaged", kinds(t, pool))

	// The first verification that looks takes what is there.
	other, _ := pgtest.NewPool(t)
	insert(t, other, "rogue")
	for _, mode := range []drift.UnmanagedMode{drift.IgnoreUnmanaged, drift.AlertUnmanaged} {
		v := verify.New(other, nil, drift.IgnoreCredentials, quiet, &counter{})
		v.LookForUnmanaged(mode)
		require.NoError(t, v.Verify(t.Context(), hint(idOf(t, other, "rogue"))))
		require.NoError(t, v.Verify(t.Context(), boot))
	}
	require.Equal(t, "rogue known", kinds(t, other))
	require.Empty(t, alerts(t, other))
}

// testUnmanagedWarned has a verifier that only warns: of each row once.
func testUnmanagedWarned(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	pool, _, metrics := looking(t, []provider.Desired{openAI("a")}, "old")
	v := verify.New(pool, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, slog.New(slog.NewTextHandler(&log, nil)), metrics)
	v.LookForUnmanaged(drift.WarnUnmanaged)
	id := insert(t, pool, "rogue")
	for _, request := range []verify.Request{resync, hint(id), resync, hint(id)} {
		require.NoError(t, v.Verify(t.Context(), request))
		require.Equal(t, 2, metrics.unmanaged)
	}
	require.Equal(t, 1, strings.Count(log.String(), "unmanaged provider"), log.String())
	require.Contains(t, log.String(), "provider=rogue provider_id="+id.String())
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'rogue'`)
	require.NoError(t, v.Verify(t.Context(), hint(id)))
	require.Equal(t, 1, metrics.unmanaged)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = true WHERE name = 'rogue'`)
	require.NoError(t, v.Verify(t.Context(), hint(id)))
	require.Equal(t, 2, strings.Count(log.String(), "unmanaged provider"), log.String())
	require.Empty(t, alerts(t, pool))
	require.Equal(t, "old known", kinds(t, pool))
}

// testUnmanagedUnsupported has an environment that names a provider of a type that the database
// lacks: a row of its name is not unmanaged.
func testUnmanagedUnsupported(t *testing.T) {
	t.Parallel()
	pool, v, metrics := looking(t, []provider.Desired{openAI("a")})
	v.SetDesired([]provider.Desired{openAI("a")}, "copilot")
	id := insert(t, pool, "copilot")
	for _, request := range []verify.Request{hint(id), reload} {
		require.NoError(t, v.Verify(t.Context(), request))
	}
	require.Empty(t, alerts(t, pool))
	require.Empty(t, kinds(t, pool))
	require.Zero(t, metrics.unmanaged)
}

// testUnmanagedDropped has reloads drop providers of which nothing is recorded: two that the database
// cannot have, and a third that no verification has seen. Their rows are known.
func testUnmanagedDropped(t *testing.T) {
	t.Parallel()
	for name, verified := range rowWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			desired := []provider.Desired{openAI("a")}
			pool, v, _ := looking(t, desired)
			takeOver(t, pool, v)
			v.SetDesired(desired, "copilot", "mistral")
			require.NoError(t, v.Verify(t.Context(), reload))
			ids := map[string]uuid.UUID{}
			for _, name := range []string{"copilot", "mistral", "brief"} {
				ids[name] = insert(t, pool, name)
			}
			v.SetDesired([]provider.Desired{openAI("a"), openAI("brief")}, "mistral")
			v.SetDesired(desired)
			for _, name := range []string{"copilot", "mistral", "brief"} {
				verified(t, pool, v, ids[name])
			}
			require.Equal(t, "brief known, copilot known, mistral known", kinds(t, pool))
			require.NoError(t, v.Verify(t.Context(), reload))
			require.NoError(t, v.Verify(t.Context(), resync))
			require.Empty(t, alerts(t, pool))

			// Another row of such a name was never named.
			exec(t, pool, `DELETE FROM public.ai_providers WHERE name = 'copilot'`)
			require.NoError(t, v.Verify(t.Context(), resync))
			verified(t, pool, v, insert(t, pool, "copilot"))
			require.Equal(t, "brief known, copilot unmanaged, mistral known", kinds(t, pool))
		})
	}
	t.Run("Standby", func(t *testing.T) {
		t.Parallel()
		desired := []provider.Desired{openAI("a")}
		pool, v, _ := looking(t, desired)
		v.SetDesired(desired, "copilot")
		v.SetDesired(desired)
		insert(t, pool, "copilot")
		takeOver(t, pool, v)
		require.NoError(t, v.Verify(t.Context(), boot))
		require.Equal(t, "copilot known", kinds(t, pool), "the former leader may have ended before it verified")

		// What was ended in a former term stays ended: another row of the name was never named.
		exec(t, pool, `DELETE FROM public.ai_providers WHERE name = 'copilot'`)
		require.NoError(t, v.Verify(t.Context(), resync))
		insert(t, pool, "copilot")
		takeOver(t, pool, v)
		require.NoError(t, v.Verify(t.Context(), boot))
		require.Equal(t, "copilot unmanaged", kinds(t, pool))
	})
	t.Run("StandbyOfPending", func(t *testing.T) {
		t.Parallel()
		desired := []provider.Desired{openAI("a")}
		pool, leader, _ := looking(t, desired)
		standby := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
		standby.LookForUnmanaged(drift.AlertUnmanaged)
		for _, v := range []*verify.Verifier{leader, standby} {
			v.AlertAfter(time.Hour)
			v.SetDesired(desired, "copilot")
			v.SetDesired(desired)
		}
		takeOver(t, pool, leader)
		require.NoError(t, leader.Verify(t.Context(), reload))
		insert(t, pool, "copilot")
		require.NoError(t, leader.Verify(t.Context(), resync))
		const pendingRows = `SELECT string_agg(provider, ' ') FROM provwatch.pending_rows`
		require.Equal(t, "copilot", value(t, pool, pendingRows))
		takeOver(t, pool, standby)
		require.NoError(t, standby.Verify(t.Context(), boot))
		require.Equal(t, "copilot", value(t, pool, pendingRows), "the former leader has seen it begin to drift")
		require.Empty(t, kinds(t, pool))
	})
}

// testUnmanagedAnotherWorkersProvider seeds a provider that this verifier's environment does
// not name, as a worker with a newer environment does in a rolling update.
func testUnmanagedAnotherWorkersProvider(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, v, _ := looking(t, []provider.Desired{openAI("a")})
			_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("a"), openAI("new")}, false, quiet)
			require.NoError(t, err)
			require.NoError(t, v.Verify(t.Context(), way(idOf(t, pool, "new"))))
			require.Empty(t, alerts(t, pool))
			require.Equal(t, "new known", kinds(t, pool))

			// That worker has ended, and another program makes another row of the name.
			takeOver(t, pool, v)
			require.NoError(t, v.Verify(t.Context(), boot))
			require.Equal(t, "new known", kinds(t, pool))
			exec(t, pool, `DELETE FROM public.ai_providers WHERE name = 'new'`)
			require.NoError(t, v.Verify(t.Context(), resync))
			require.NoError(t, v.Verify(t.Context(), way(insert(t, pool, "new"))))
			require.Equal(t, "new unmanaged", kinds(t, pool))
		})
	}
}

// testUnmanagedTakeover has workers with different environments lead by turns.
func testUnmanagedTakeover(t *testing.T) {
	t.Parallel()
	pool, older, _ := looking(t, []provider.Desired{openAI("a")}, "rest")
	newer := verify.New(pool, []provider.Desired{openAI("a"), openAI("b")}, drift.IgnoreCredentials, quiet, &counter{})
	newer.LookForUnmanaged(drift.AlertUnmanaged)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("a"), openAI("b")}, false, quiet)
	require.NoError(t, err)
	for range 2 {
		for _, v := range []*verify.Verifier{newer, older} {
			takeOver(t, pool, v)
			require.NoError(t, v.Verify(t.Context(), boot))
			require.NoError(t, v.Verify(t.Context(), resync))
		}
	}
	require.Empty(t, alerts(t, pool))
	require.Equal(t, "b known, rest known", kinds(t, pool))
	// A worker that no longer leads records nothing, not even what was there first.
	exec(t, pool, `DELETE FROM provwatch.unmanaged_rows`)
	exec(t, pool, `DELETE FROM provwatch.unmanaged_baseline`)
	require.Error(t, newer.Verify(t.Context(), resync))
	require.Empty(t, kinds(t, pool))
	takeOver(t, pool, older)
	require.NoError(t, older.Verify(t.Context(), boot))
	require.Equal(t, "b known, rest known", kinds(t, pool))
}

// rowWays are how the change of a row is recorded: by a verification, or by a commit of the WAL.
var rowWays = map[string]func(t *testing.T, pool *pgxpool.Pool, v *verify.Verifier, id uuid.UUID){
	"resync": func(t *testing.T, _ *pgxpool.Pool, v *verify.Verifier, _ uuid.UUID) {
		require.NoError(t, v.Verify(t.Context(), resync))
	},
	"hint": func(t *testing.T, _ *pgxpool.Pool, v *verify.Verifier, id uuid.UUID) {
		require.NoError(t, v.Verify(t.Context(), hint(id)))
	},
	"commit": func(t *testing.T, pool *pgxpool.Pool, v *verify.Verifier, id uuid.UUID) {
		hasher, err := v.Hasher(t.Context())
		require.NoError(t, err)
		row := &provider.Row{ID: id, Type: provider.OpenAI, BaseURL: "https://h/"}
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT name, enabled FROM public.ai_providers WHERE id = $1`, id).Scan(&row.Name, &row.Enabled))
		o := verify.Observed{Observation: drift.ObserveRow(hasher, row, v.Mentions(row.Name)), Commit: &pubsub.Commit{LSN: "0/1", XID: 1, CommittedAt: time.Now()}}
		var recorded verify.Recorded
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
			recorded, err = v.Record(t.Context(), tx, []verify.Observed{o}, pubsub.SourceWAL)
			return err
		}))
		v.Announce(t.Context(), recorded)
	},
}
