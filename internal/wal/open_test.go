package wal

import (
	"testing"

	"provwatch/internal/pubsub"

	"github.com/stretchr/testify/require"
)

// TestOpener has a slot that goes on from the position, a dropped slot, and a gap that the
// stream before has found.
func TestOpener(t *testing.T) {
	t.Parallel()
	o, s, pool := newTestOpener(t)
	m := newMirror(hasher)
	none, err := o.find(t.Context(), s)
	require.NoError(t, err)
	require.False(t, none.known)
	require.Nil(t, none.slot)
	require.Empty(t, none.gap, "of the first slot nothing was promised")
	start, confirmed, err := o.start(t.Context(), s, none, m)
	require.NoError(t, err)
	require.NotZero(t, start)
	require.Equal(t, start, confirmed)

	there, err := o.find(t.Context(), s)
	require.NoError(t, err)
	require.Empty(t, there.gap)
	again, confirmed, err := o.start(t.Context(), s, there, m)
	require.NoError(t, err)
	require.Equal(t, start, again)
	require.LessOrEqual(t, confirmed, start)

	o.gap = "the stream has shown one"
	shown, err := o.find(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, o.gap, shown.gap)
	o.gap = ""

	_, err = DropSlot(t.Context(), pool, s.server.Slot)
	require.NoError(t, err)
	gone, err := o.find(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, slotGone, gone.gap)
	o.verifier = newVerifier(pool)
	require.NoError(t, o.verifier.TakeOver(t.Context(), 0, pubsub.SourceBoot))
	start, _, err = o.start(t.Context(), s, gone, m)
	require.NoError(t, err)
	require.Greater(t, start, again)
	var reason string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT reason FROM provwatch.drift_alerts WHERE kind = 'gap'`).Scan(&reason))
	require.Equal(t, slotGone, reason)
}
