package wal

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// TestUnmanagedRowsBesideParts verifies everything while the stream shows a transaction in parts,
// which does not touch a row that the verification has read: it is verified again.
func TestUnmanagedRowsBesideParts(t *testing.T) {
	t.Parallel()
	w := newUnmanagedWorld(t)
	c := w.h.checker
	// The row was enabled while no worker watched: the mirror has it, and nothing is recorded of it.
	c.mirror.apply(w.put("rogue", nil))
	require.NoError(t, c.mirror.save(t.Context(), store.On(w.pool)))
	c.mirror.saved()
	_, err := w.pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', 'rogue', 'https://h/')`, w.ids["rogue"])
	require.NoError(t, err)
	check := func(meanwhile func()) *check {
		t.Helper()
		c.take(verify.Everything(pubsub.SourceResync))
		_, err := c.begin(t.Context())
		require.NoError(t, err)
		require.NotNil(t, c.current)
		meanwhile()
		ended, err := c.finish(t.Context())
		require.NoError(t, err)
		require.NotNil(t, ended)
		return ended
	}
	first := check(func() {
		c.see(w.applyLarge(w.put("new", nil)))
		_, err := w.pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', 'new', 'https://h/')`, w.ids["new"])
		require.NoError(t, err)
	})
	w.requireAlerts("unmanaged new database")
	require.True(t, first.again, "the transaction has not judged it")
	require.False(t, check(func() {}).again)
	w.requireAlerts("unmanaged new database", "unmanaged rogue database")

	// What a commit has shown meanwhile as well is left to the stream.
	off := w.put("rogue", func(r *fullRow) { r.enabled = false })
	moved := w.put("new", func(r *fullRow) { r.baseURL = "https://other/" })
	require.False(t, check(func() {
		c.see(w.applyLarge(w.put("other", nil)))
		seen, err := w.h.applier.apply(t.Context(), []event{{transaction: w.transaction(moved, off)}})
		require.NoError(t, err)
		c.see(seen)
	}).again)
	w.requireAlerts("unmanaged new database", "unmanaged rogue database", "unmanaged other database", "resolved rogue reverted ends 2")
}

// TestUnmanagedRowsReloaded drops a name while a verification of everything waits for its marker. This
// ends nothing for the environment after the reload, nor does the next one, which must be done again. The
// row is known by the verification that covers it.
func TestUnmanagedRowsReloaded(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{"unsupported": "", "not comparable": "{"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newUnmanagedWorld(t)
			c, v := w.h.checker, w.h.applier.verifier
			a := provider.Desired{Name: "a", Type: provider.OpenAI, BaseURL: "https://h/"}
			if settings == "" {
				v.SetDesired([]provider.Desired{a}, "dropped")
			} else {
				v.SetDesired([]provider.Desired{a, {Name: "dropped", Type: provider.Anthropic, BaseURL: "https://h/"}})
			}
			w.ids["dropped"] = uuid.New()
			_, err := w.pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, settings) VALUES ($1, 'anthropic', 'dropped', 'https://h/', nullif($2, ''))`,
				w.ids["dropped"], settings)
			require.NoError(t, err)
			require.NoError(t, c.mirror.copyTable(t.Context(), store.On(w.pool), nil))
			c.mirror.saved()
			check := func(source pubsub.Source, meanwhile func()) (again bool) {
				t.Helper()
				c.take(verify.Everything(source))
				_, err := c.begin(t.Context())
				require.NoError(t, err)
				meanwhile()
				ended, err := c.finish(t.Context())
				require.NoError(t, err)
				return ended.again
			}
			nothing := func() {}
			require.False(t, check(pubsub.SourceReload, nothing))
			require.False(t, check(pubsub.SourceResync, func() { v.SetDesired([]provider.Desired{a}) }))
			require.True(t, check(pubsub.SourceReload, func() {
				c.see(w.applyLarge(w.put("new", func(r *fullRow) { r.enabled = false })))
			}), "the row is verified again")
			require.False(t, check(pubsub.SourceReload, nothing))
			require.False(t, check(pubsub.SourceResync, nothing))
			require.Empty(t, w.list(`SELECT kind FROM provwatch.drift_alerts`))
			require.Equal(t, []string{"dropped known", "old known"}, w.list(`SELECT provider || ' ' || kind FROM provwatch.unmanaged_rows ORDER BY provider`))
		})
	}
}
