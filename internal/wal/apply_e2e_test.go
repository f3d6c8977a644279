//go:build e2e

package wal

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// TestKilledApplier has a row of which the stream does not hold all, in a transaction of
// one part and in one of two. The worker is killed once it has recorded the row. The next
// worker must know of the gap, since the position is behind the row.
func TestKilledApplier(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string][]change{
		"one part":  {{put: &version{id: uuid.New(), kind: provider.OpenAI, nameUnchanged: true}}},
		"two parts": {{put: &version{id: uuid.New(), kind: provider.OpenAI, nameUnchanged: true}}, {put: &version{id: uuid.New(), kind: provider.OpenAI, name: "gpt"}}},
	} {
		t.Run(name, func(t *testing.T) {
			pool, _ := pgtest.NewPool(t)
			queries := store.On(pool)
			startPosition(t, queries)
			h, _ := newTestHandler(pool)
			var batch []event
			for i, c := range changes {
				e := event{transaction: &transaction{commit: 0x20, end: 0x30, changes: []change{c}}}
				if i < len(changes)-1 {
					e.transaction.more, e.transaction.end = true, 0
				}
				if i == 0 {
					batch = append(batch, e)
				} else {
					added, err := h.backlog.put(t.Context(), e)
					require.NoError(t, err)
					require.True(t, added)
				}
			}
			_, err := h.applyAll(t.Context(), batch)
			var gap *gapError
			require.ErrorAs(t, err, &gap)
			position, err := queries.ReadWALPosition(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{"s", pglogrepl.LSN(0x30).String(), gap.reason}, []string{position.Slot, position.AppliedLsn, position.Gap})

			// What was said stays said until there is a new slot.
			require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return h.applier.recorder.markUnread(t.Context(), tx, uuid.New()) }))
			again, err := queries.ReadWALPosition(t.Context())
			require.NoError(t, err)
			require.Equal(t, gap.reason, again.Gap)
		})
	}
}
