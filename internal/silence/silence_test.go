package silence_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/remedy"
	"provwatch/internal/silence"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// staged returns the audit entries that were staged, each "actor action provider", with the
// details.
func staged(t *testing.T, pool *pgxpool.Pool) (entries []string, details []map[string]any) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT format('%s %s %s', actor, action, provider), details::text FROM provwatch.audit_outbox ORDER BY seq`)
	require.NoError(t, err)
	var entry, text string
	_, err = pgx.ForEachRow(rows, []any{&entry, &text}, func() error {
		var decoded map[string]any
		entries = append(entries, entry)
		err := json.Unmarshal([]byte(text), &decoded)
		details = append(details, decoded)
		return err
	})
	require.NoError(t, err)
	return entries, details
}

// ids returns the ids of silences.
func ids(list []silence.Silence) (ids []int64) {
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestSilence(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	list, more, err := silence.List(t.Context(), pool, true)
	require.NoError(t, err)
	require.Equal(t, []silence.Silence{}, list)
	require.False(t, more)

	added, err := silence.Add(t.Context(), pool, silence.Request{Providers: []string{"b", "a"}, For: time.Hour, Reason: "a new region", Actor: "operator:x"})
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2}, ids(added))
	for i, name := range []string{"b", "a"} {
		s := added[i]
		require.Equal(t, silence.Silence{
			ID: int64(i + 1), Provider: name, Author: "operator:x", Reason: "a new region", Begins: s.Begins, Ends: s.Begins.Add(time.Hour), Active: true,
		}, s)
	}
	until := time.Now().Add(30 * time.Minute).Truncate(time.Second)
	all, err := silence.Add(t.Context(), pool, silence.Request{Providers: []string{silence.All}, Until: until, Reason: "r", Actor: "operator:x"})
	require.NoError(t, err)
	require.True(t, until.Equal(all[0].Ends))

	ended, done, err := silence.End(t.Context(), pool, 2, "operator:y")
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, silence.Silence{
		ID: 2, Provider: "a", Author: "operator:x", Reason: "a new region", Begins: added[1].Begins, Ends: ended.Ends, EndedBy: "operator:y",
	}, ended)
	require.False(t, ended.Ends.Before(added[1].Begins))
	again, done, err := silence.End(t.Context(), pool, 2, "operator:z")
	require.NoError(t, err)
	require.False(t, done)
	require.Equal(t, ended, again)

	list, more, err = silence.List(t.Context(), pool, false)
	require.NoError(t, err)
	require.Equal(t, []silence.Silence{all[0], added[0]}, list, "the first to end comes first")
	require.False(t, more)
	list, _, err = silence.List(t.Context(), pool, true)
	require.NoError(t, err)
	require.Equal(t, []silence.Silence{all[0], added[0], ended}, list)

	entries, details := staged(t, pool)
	require.Equal(t, []string{
		"operator:x silence.create b", "operator:x silence.create a", "operator:x silence.create *", "operator:y silence.end a",
	}, entries)
	require.Equal(t, map[string]any{"silence": 1.0, "reason": "a new region", "expires": added[0].Ends.Format(time.RFC3339Nano)}, details[0])
	require.Equal(t, map[string]any{"silence": 2.0, "reason": "a new region", "expires": ended.Ends.Format(time.RFC3339Nano)}, details[3])
}

// TestClockSetBack ends a silence when the database's clock was set back to before it.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := silence.Add(t.Context(), pool, silence.Request{Providers: []string{"a"}, For: time.Hour, Reason: "r", Actor: "operator:x"})
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `UPDATE provwatch.silences SET begins_at = begins_at + interval '1 day', ends_at = ends_at + interval '1 day'`)
	require.NoError(t, err)
	ended, done, err := silence.End(t.Context(), pool, 1, "operator:y")
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, ended.Begins, ended.Ends, "it matches nothing, at no time")
	_, done, err = silence.End(t.Context(), pool, 1, "operator:z")
	require.NoError(t, err)
	require.False(t, done)
}

// TestRefused asks for what cannot be done, which changes nothing.
func TestRefused(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := silence.Add(t.Context(), pool, silence.Request{Providers: []string{"a"}, Until: time.Now().Add(-time.Second), Reason: "r", Actor: "operator:x"})
	require.ErrorContains(t, err, "silence alerts: the silence would end at ")
	_, err = silence.Add(t.Context(), pool, silence.Request{Providers: []string{"a", ""}, For: time.Hour, Reason: "r", Actor: "operator:x"})
	require.Error(t, err, "all or none")
	_, _, err = silence.End(t.Context(), pool, 7, "operator:x")
	require.EqualError(t, err, `end silence 7: there is no silence with the id 7; see "worker silences"`)
	require.Equal(t, []remedy.Remedy{remedy.Run("silences")}, remedy.Of(err))
	list, _, err := silence.List(t.Context(), pool, true)
	require.NoError(t, err)
	require.Empty(t, list)
	entries, _ := staged(t, pool)
	require.Empty(t, entries)
}

// TestMany lists the silences that last before the ended ones, and not all of very
// many.
func TestMany(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO provwatch.silences (provider, author, reason, begins_at, ends_at)
		SELECT 'p' || n, 'x', '', now() - interval '1 day', now() + make_interval(mins => n) FROM generate_series(-$1::int, 2) AS n`, silence.MaxListed)
	require.NoError(t, err)
	list, more, err := silence.List(t.Context(), pool, true)
	require.NoError(t, err)
	require.True(t, more)
	require.Len(t, list, silence.MaxListed)
	require.Equal(t, []string{"p1", "p2", "p0", "p-1"}, []string{list[0].Provider, list[1].Provider, list[2].Provider, list[3].Provider})
	require.True(t, list[1].Active)
	require.False(t, list[2].Active)
}

// TestNotMigrated lists silences of a database that has no tables of provwatch.
func TestNotMigrated(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := pool.Exec(t.Context(), `DROP TABLE provwatch.silences`)
	require.NoError(t, err)
	_, _, err = silence.List(t.Context(), pool, false)
	require.ErrorContains(t, err, `provwatch's table of silences is not there yet; run "worker migrate"`)
}
