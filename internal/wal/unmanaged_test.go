package wal

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// unmanagedWorld is a handler of a stream that looks for unmanaged rows, in a database whose rows
// were taken for known ones: "old", and the rows of the environment's
// provider "a" and of "b", which another worker names.
type unmanagedWorld struct {
	t    *testing.T
	pool *pgxpool.Pool
	h    *handler
	ids  map[string]uuid.UUID
	end  pglogrepl.LSN
}

func newUnmanagedWorld(t *testing.T) *unmanagedWorld {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	startPosition(t, store.On(pool))
	w := &unmanagedWorld{t: t, pool: pool, ids: map[string]uuid.UUID{}, end: 0x20}
	for _, name := range []string{"a", "old"} {
		w.ids[name] = uuid.New()
		_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', $2, 'https://h/')`, w.ids[name], name)
		require.NoError(t, err)
	}
	w.h, _ = newTestHandler(pool, provider.Desired{Name: "a", Type: provider.OpenAI, BaseURL: "https://h/"})
	v := w.h.applier.verifier
	v.LookForUnmanaged(drift.AlertUnmanaged)
	require.NoError(t, v.TakeOver(t.Context(), 0, pubsub.SourceBoot))
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	w.h.applier.mirror.hasher = hasher
	require.NoError(t, w.h.applier.mirror.copyTable(t.Context(), store.On(pool), nil))
	w.h.applier.mirror.saved()
	require.NoError(t, v.Verify(t.Context(), verify.Everything(pubsub.SourceBoot)))
	require.Equal(t, []string{"old known"}, w.list(`SELECT provider || ' ' || kind FROM provwatch.unmanaged_rows ORDER BY provider`))
	return w
}

func (w *unmanagedWorld) list(query string) []string {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), query)
	require.NoError(w.t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	return list
}

// put returns a change of the row that is called so in the world.
func (w *unmanagedWorld) put(row string, change func(*fullRow)) change {
	if _, known := w.ids[row]; !known {
		w.ids[row] = uuid.New()
	}
	r := fullRow{name: row, baseURL: "https://h/", enabled: true}
	if change != nil {
		change(&r)
	}
	return changeOf(r, w.ids[row])
}

func changeOf(r fullRow, id uuid.UUID) change { return change{put: r.version(id)} }

func (w *unmanagedWorld) transaction(changes ...change) *transaction {
	w.end += 0x10
	return &transaction{commit: w.end - 8, end: w.end, xid: uint32(w.end), committedAt: time.Now(), changes: changes}
}

// apply applies transactions as one batch.
func (w *unmanagedWorld) apply(list ...*transaction) {
	w.t.Helper()
	batch := make([]event, len(list))
	for i, tx := range list {
		batch[i] = event{transaction: tx}
	}
	_, err := w.h.applier.apply(w.t.Context(), batch)
	require.NoError(w.t, err)
}

// applyLarge applies the changes as a transaction in parts of one change each.
func (w *unmanagedWorld) applyLarge(changes ...change) *outcome {
	w.t.Helper()
	large, err := w.h.applier.beginLarge(w.t.Context())
	require.NoError(w.t, err)
	defer large.rollback(w.t.Context())
	var last *transaction
	for _, c := range changes {
		last = w.transaction(c)
		require.NoError(w.t, large.take(w.t.Context(), last))
	}
	seen, err := large.commit(w.t.Context(), last)
	require.NoError(w.t, err)
	return seen
}

func (w *unmanagedWorld) requireAlerts(want ...string) {
	w.t.Helper()
	require.Equal(w.t, want, w.list(`SELECT concat_ws(' ', kind, provider, nullif(moved, ''), nullif(how, ''), 'ends ' || resolves, 'to ' || nullif(renamed_to, ''))
		FROM provwatch.drift_alerts ORDER BY seq`))
}

func TestUnmanagedRows(t *testing.T) {
	t.Parallel()
	t.Run("Batches", testUnmanagedRowsBatches)
	t.Run("Renamed", testUnmanagedRowsRenamed)
	t.Run("Truncated", testUnmanagedRowsTruncated)
	t.Run("Restored", testUnmanagedRowsRestored)
	t.Run("InParts", testUnmanagedRowsInParts)
	t.Run("Untouched", testUnmanagedRowsUntouched)
	t.Run("BeforeTheFirst", testUnmanagedRowsBeforeTheFirst)
	t.Run("Checked", testUnmanagedRowsChecked)
	t.Run("Pending", testUnmanagedRowsPending)
	t.Run("Replaced", testUnmanagedRowsReplaced)
	t.Run("EnabledAgain", testUnmanagedRowsEnabledAgain)
}

// testUnmanagedRowsReplaced has a row take the name of another one in the transaction that removes that: the
// drift of one ends before the other's begins, whichever id is greater.
func testUnmanagedRowsReplaced(t *testing.T) {
	t.Parallel()
	least, greatest := uuid.UUID{15: 1}, uuid.Max
	for _, ids := range [][2]uuid.UUID{{least, greatest}, {greatest, least}} {
		for name, apply := range map[string]func(*unmanagedWorld, ...change){
			"batch": func(w *unmanagedWorld, changes ...change) { w.apply(w.transaction(changes...)) },
			"parts": func(w *unmanagedWorld, changes ...change) { w.applyLarge(changes...) },
		} {
			w := newUnmanagedWorld(t)
			row := fullRow{name: "x", baseURL: "https://h/", enabled: true}
			w.apply(w.transaction(changeOf(row, ids[0])))
			apply(w, change{removed: ids[0]}, changeOf(row, ids[1]))
			require.Equal(t, []string{"unmanaged " + ids[0].String(), "resolved " + ids[0].String(), "unmanaged " + ids[1].String()},
				w.list(`SELECT kind || ' ' || provider_id FROM provwatch.drift_alerts ORDER BY seq`), name)
		}
	}
}

// testUnmanagedRowsPending holds the alerts of rows for an hour: what lasted for that long between
// two commits is alerted, in batches and by transactions in parts.
func testUnmanagedRowsPending(t *testing.T) {
	t.Parallel()
	w := newUnmanagedWorld(t)
	w.h.applier.verifier.AlertAfter(time.Hour)
	ago := func(minutes int, changes ...change) *transaction {
		tx := w.transaction(changes...)
		tx.committedAt = time.Now().Add(-time.Duration(minutes) * time.Minute)
		return tx
	}
	off := func(r *fullRow) { r.enabled = false }
	w.apply(ago(300, w.put("lasts", nil), w.put("parts", nil)), ago(290, w.put("short", nil)), ago(240, w.put("short", off)))
	require.Empty(t, w.list(`SELECT kind FROM provwatch.drift_alerts`))
	require.Equal(t, []string{"lasts wal", "parts wal"}, w.list(`SELECT provider || ' ' || source FROM provwatch.pending_rows ORDER BY provider`))
	w.apply(ago(230, w.put("lasts", off)))
	w.requireAlerts("unmanaged lasts database", "resolved lasts reverted ends 1")
	w.applyLarge(change{removed: w.ids["parts"]}, w.put("new", nil))
	w.requireAlerts("unmanaged lasts database", "resolved lasts reverted ends 1", "unmanaged parts database", "resolved parts reverted ends 3")
	require.Equal(t, []string{"new"}, w.list(`SELECT provider FROM provwatch.pending_rows`))
	w.applyLarge(w.put("new", off))
	require.Empty(t, w.list(`SELECT provider FROM provwatch.pending_rows`))
	require.Len(t, w.list(`SELECT kind FROM provwatch.drift_alerts`), 4)
}

// testUnmanagedRowsBatches has transactions one by one, and all in one batch: each of them gives its
// alerts, of its own commit.
func testUnmanagedRowsBatches(t *testing.T) {
	t.Parallel()
	for name, together := range map[string]bool{"OneByOne": false, "Together": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newUnmanagedWorld(t)
			list := []*transaction{
				w.transaction(w.put("rogue", func(r *fullRow) { r.enabled = false })),
				w.transaction(w.put("rogue", nil)),
				w.transaction(w.put("rogue", func(r *fullRow) { r.baseURL = "https://user:q7zleak@h/" })),
				w.transaction(w.put("rogue", func(r *fullRow) { r.name = "renamed" })),
				w.transaction(w.put("rogue", func(r *fullRow) { r.enabled = false })),
				w.transaction(w.put("rogue", nil)),
				w.transaction(change{removed: w.ids["rogue"]}),
				w.transaction(w.put("old", func(r *fullRow) { r.baseURL = "https://other/" })),
				w.transaction(w.put("old", func(r *fullRow) { r.deleted = true })),
				w.transaction(w.put("old", nil)),
				w.transaction(w.put("gone", nil), change{removed: w.ids["gone"]}),
			}
			if together {
				w.apply(list...)
			} else {
				for _, tx := range list {
					w.apply(tx)
				}
			}
			w.requireAlerts(
				"unmanaged rogue database", "resolved rogue reverted ends 1", "unmanaged rogue database", "resolved rogue reverted ends 3",
				"unmanaged old database",
			)
			require.Equal(t, []string{list[1].end.String(), list[4].end.String(), list[5].end.String(), list[6].end.String(), list[9].end.String()},
				w.list(`SELECT lsn::text FROM provwatch.drift_alerts ORDER BY seq`))
			require.Equal(t, []string{"old unmanaged"}, w.list(`SELECT provider || ' ' || kind FROM provwatch.unmanaged_rows`))
			// An applied change is no news for a verification.
			require.NoError(t, pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error {
				recorded, err := w.h.applier.verifier.Record(t.Context(), tx, []verify.Observed{{Observation: observeRow(w.h.applier.verifier, w.h.applier.mirror, w.ids["old"])}}, pubsub.SourceResync)
				w.h.applier.verifier.Announce(t.Context(), recorded)
				return err
			}))
			require.Len(t, w.list(`SELECT kind FROM provwatch.drift_alerts`), 5)
		})
	}
}

// testUnmanagedRowsRenamed renames the row of a provider away and back, replaces it, and gives
// its name to a row that drifts.
func testUnmanagedRowsRenamed(t *testing.T) {
	t.Parallel()
	for name, together := range map[string]bool{"OneByOne": false, "Together": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newUnmanagedWorld(t)
			w.apply(w.transaction(w.put("a", nil)))
			away := func(r *fullRow) { r.name = "away" }
			list := []*transaction{
				w.transaction(w.put("a", away)),
				w.transaction(w.put("a", nil)),
				w.transaction(w.put("a", away), w.put("other", func(r *fullRow) { r.name = "a" })),
				w.transaction(w.put("a", func(r *fullRow) { away(r); r.baseURL = "https://other/" })),
				w.transaction(w.put("rogue", nil)),
				w.transaction(change{removed: w.ids["other"]}),
				w.transaction(w.put("rogue", func(r *fullRow) { r.name = "a" })),
				w.transaction(w.put("rogue", nil)),
			}
			if together {
				w.apply(list...)
			} else {
				for _, tx := range list {
					w.apply(tx)
				}
			}
			w.requireAlerts(
				"missing a database to away", "resolved a reverted ends 1",
				"unmanaged rogue database", "missing a database",
				"resolved rogue environment_changed ends 3", "resolved a reverted ends 4", "missing a database to rogue",
			)
			require.Equal(t, []string{"away known", "old known", "rogue known"}, w.list(`SELECT provider || ' ' || kind FROM provwatch.unmanaged_rows ORDER BY provider`))
		})
	}
}

// testUnmanagedRowsEnabledAgain gives the row of a provider another name, and then disables and
// enables it: it is known until then.
func testUnmanagedRowsEnabledAgain(t *testing.T) {
	t.Parallel()
	for name, together := range map[string]bool{"one by one": false, "together": true} {
		w := newUnmanagedWorld(t)
		named := func(enabled bool) change {
			return w.put("a", func(r *fullRow) { r.name, r.enabled = "away", enabled })
		}
		list := []*transaction{w.transaction(named(true)), w.transaction(named(false)), w.transaction(named(true))}
		if together {
			w.apply(list...)
		} else {
			for _, tx := range list {
				w.apply(tx)
			}
		}
		require.Equal(t, []string{"missing a", "unmanaged away"}, w.list(`SELECT kind || ' ' || provider FROM provwatch.drift_alerts ORDER BY seq`), name)
	}
}

// testUnmanagedRowsTruncated truncates the table, and fills it again in the same transaction.
func testUnmanagedRowsTruncated(t *testing.T) {
	t.Parallel()
	w := newUnmanagedWorld(t)
	w.apply(w.transaction(w.put("rogue", nil)), w.transaction(w.put("stays", nil)),
		w.transaction(change{truncate: true}, w.put("a", nil), w.put("stays", nil), w.put("new", nil)))
	w.requireAlerts("unmanaged rogue database", "unmanaged stays database", "resolved rogue reverted ends 1", "unmanaged new database")
	require.Equal(t, []string{"new unmanaged", "stays unmanaged"}, w.list(`SELECT provider || ' ' || kind FROM provwatch.unmanaged_rows ORDER BY provider`))
}

// testUnmanagedRowsRestored empties the table and fills it again, as a restore of its rows does. In one
// transaction known rows stay known; in two they are new ones.
func testUnmanagedRowsRestored(t *testing.T) {
	t.Parallel()
	for name, apply := range map[string]func(*unmanagedWorld, ...change){
		"batch": func(w *unmanagedWorld, changes ...change) { w.apply(w.transaction(changes...)) },
		"parts": func(w *unmanagedWorld, changes ...change) { w.applyLarge(changes...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newUnmanagedWorld(t)
			apply(w, change{truncate: true}, w.put("a", nil), w.put("old", nil))
			require.Empty(t, w.list(`SELECT kind FROM provwatch.drift_alerts`))
			require.Equal(t, []string{"old known"}, w.list(`SELECT provider || ' ' || kind FROM provwatch.unmanaged_rows`))
			apply(w, change{truncate: true})
			apply(w, w.put("a", nil), w.put("old", nil))
			w.requireAlerts("missing a database", "unmanaged old database", "resolved a reverted ends 1")
		})
	}
}

// testUnmanagedRowsInParts has what a transaction in parts does to rows.
func testUnmanagedRowsInParts(t *testing.T) {
	t.Parallel()
	w := newUnmanagedWorld(t)
	w.apply(w.transaction(w.put("a", nil)), w.transaction(w.put("rogue", nil)), w.transaction(w.put("lasts", nil)))
	w.applyLarge(
		change{removed: w.ids["rogue"]},
		w.put("old", func(r *fullRow) { r.enabled = false }),
		w.put("new", nil),
		w.put("a", func(r *fullRow) { r.name = "away" }),
		w.put("other", func(r *fullRow) { r.name = "a" }),
		w.put("short", nil), change{removed: w.ids["short"]},
	)
	require.ElementsMatch(t, []string{
		"unmanaged rogue database", "unmanaged lasts database", "unmanaged new database", "resolved rogue reverted ends 1",
	}, w.list(`SELECT concat_ws(' ', kind, provider, nullif(moved, ''), nullif(how, ''), 'ends ' || resolves) FROM provwatch.drift_alerts`))
	require.Equal(t, []string{"away known", "lasts unmanaged", "new unmanaged"}, w.list(`SELECT provider || ' ' || kind FROM provwatch.unmanaged_rows ORDER BY provider`))
	w.applyLarge(change{truncate: true}, w.put("new", nil))
	require.Equal(t, []string{"new unmanaged"}, w.list(`SELECT provider || ' ' || kind FROM provwatch.unmanaged_rows ORDER BY provider`))
}

// testUnmanagedRowsUntouched has a transaction in parts beside rows that it does not touch: it judges
// none of them, and no row of a provider as one by itself.
func testUnmanagedRowsUntouched(t *testing.T) {
	t.Parallel()
	w := newUnmanagedWorld(t)
	w.apply(w.transaction(w.put("a", nil)), w.transaction(w.put("expired", nil)), w.transaction(w.put("lasts", nil)))
	// The acceptance of a row has ended since.
	_, err := w.pool.Exec(t.Context(), `UPDATE provwatch.unmanaged_rows SET kind = 'in_sync' WHERE provider = 'expired'`)
	require.NoError(t, err)
	large, err := w.h.applier.beginLarge(t.Context())
	require.NoError(t, err)
	defer large.rollback(t.Context())
	var last *transaction
	for _, c := range []change{w.put("new", nil), w.put("a", func(r *fullRow) { r.baseURL = "https://other/" })} {
		last = w.transaction(c)
		require.NoError(t, large.take(t.Context(), last))
	}
	judged, err := large.queries.ListMirrorSuspects(t.Context(), uuid.Nil, verify.MaxObserved)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{w.ids["new"]}, judged)
	_, err = large.commit(t.Context(), last)
	require.NoError(t, err)
	want := []string{"unmanaged expired database", "unmanaged lasts database", "unmanaged new database", "changed a database"}
	w.requireAlerts(want...)

	// A row that drifts gets the name of a provider, which ends its drift.
	w.applyLarge(change{removed: w.ids["a"]}, w.put("lasts", func(r *fullRow) { r.name = "a" }))
	w.requireAlerts(append(want, "resolved lasts environment_changed ends 2", "resolved a reverted ends 4")...)
	require.Equal(t, []string{"expired in_sync", "new unmanaged"}, w.list(`SELECT provider || ' ' || kind FROM provwatch.unmanaged_rows WHERE kind <> 'known' ORDER BY provider`))
}

// testUnmanagedRowsBeforeTheFirst applies changes before the first verification: no row is
// judged.
func testUnmanagedRowsBeforeTheFirst(t *testing.T) {
	t.Parallel()
	w := newUnmanagedWorld(t)
	for _, table := range []string{"unmanaged_rows", "unmanaged_baseline"} {
		_, err := w.pool.Exec(t.Context(), `DELETE FROM provwatch.`+table)
		require.NoError(t, err)
	}
	w.apply(w.transaction(w.put("rogue", nil)))
	w.applyLarge(w.put("other", nil))
	require.Empty(t, w.list(`SELECT kind FROM provwatch.drift_alerts`))
	require.Empty(t, w.list(`SELECT kind FROM provwatch.unmanaged_rows`))
}

// testUnmanagedRowsChecked verifies everything beside the stream: a row that the stream has not
// shown is recorded once the mirror agrees, and a row that it has shown meanwhile is left to it.
func testUnmanagedRowsChecked(t *testing.T) {
	t.Parallel()
	w := newUnmanagedWorld(t)
	c := w.h.checker
	begin := func() {
		t.Helper()
		c.take(verify.Everything(pubsub.SourceResync))
		_, err := c.begin(t.Context())
		require.NoError(t, err)
		require.NotNil(t, c.current)
	}
	finish := func() *check {
		t.Helper()
		ended, err := c.finish(t.Context())
		require.NoError(t, err)
		require.NotNil(t, ended)
		return ended
	}
	rogue := w.put("rogue", nil)
	_, err := w.pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', 'rogue', 'https://h/')`, w.ids["rogue"])
	require.NoError(t, err)
	begin()
	require.True(t, finish().again, "the mirror does not have it yet")
	require.Empty(t, w.list(`SELECT kind FROM provwatch.drift_alerts`))

	begin()
	seen, err := w.h.applier.apply(t.Context(), []event{{transaction: w.transaction(rogue)}})
	require.NoError(t, err)
	require.False(t, c.see(seen))
	require.False(t, finish().again, "it is left to the stream")
	w.requireAlerts("unmanaged rogue database")

	begin()
	require.False(t, finish().again)
	w.requireAlerts("unmanaged rogue database")

	// A change that the stream has shown, and that no worker has recorded.
	c.mirror.apply(w.put("late", nil))
	_, err = w.pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', 'late', 'https://h/')`, w.ids["late"])
	require.NoError(t, err)
	begin()
	require.False(t, finish().again)
	w.requireAlerts("unmanaged rogue database", "unmanaged late database")

	_, err = w.pool.Exec(t.Context(), `DELETE FROM public.ai_providers WHERE name = 'late'`)
	require.NoError(t, err)
	for range maxDisagreements {
		begin()
		require.True(t, finish().again)
	}
	begin()
	_, err = c.finish(t.Context())
	require.Equal(t, "the mirror of row "+w.ids["late"].String()+" disagrees with the provider table", asGap(err).reason)
}
