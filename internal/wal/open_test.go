package wal

import (
	"testing"

	"provwatch/internal/pubsub"

	"github.com/stretchr/testify/require"
)

// TestBegin has a slot that goes on from the position, a dropped slot, and a gap that the
// attempt before has found.
func TestBegin(t *testing.T) {
	t.Parallel()
	a, s, pool := newAttempt(t)
	a.retention = &retention{metrics: unmeasured{}}
	m := newMirror(hasher)
	none, err := a.find(t.Context(), s)
	require.NoError(t, err)
	require.False(t, none.known)
	require.Nil(t, none.slot)
	require.Empty(t, none.gap, "of the first slot nothing was promised")
	start, confirmed, err := a.start(t.Context(), s, none, m)
	require.NoError(t, err)
	require.NotZero(t, start)
	require.Equal(t, start, confirmed)

	there, err := a.find(t.Context(), s)
	require.NoError(t, err)
	require.Empty(t, there.gap)
	again, confirmed, err := a.start(t.Context(), s, there, m)
	require.NoError(t, err)
	require.Equal(t, start, again)
	require.LessOrEqual(t, confirmed, start)

	a.gap = "the stream has shown one"
	shown, err := a.find(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, a.gap, shown.gap)
	a.gap = ""

	_, err = DropSlot(t.Context(), pool, s.server.Slot)
	require.NoError(t, err)
	gone, err := a.find(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, slotGone, gone.gap)
	a.reader.Verifier = newVerifier(pool)
	require.NoError(t, a.reader.Verifier.TakeOver(t.Context(), 0, pubsub.SourceBoot))
	start, _, err = a.start(t.Context(), s, gone, m)
	require.NoError(t, err)
	require.Greater(t, start, again)
	var reason string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT reason FROM provwatch.drift_alerts WHERE kind = 'gap'`).Scan(&reason))
	require.Equal(t, slotGone, reason)
}
