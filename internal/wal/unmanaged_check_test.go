package wal

import (
	"testing"

	"github.com/stretchr/testify/require"

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
