package daemon

import (
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/store"
	"provwatch/internal/wal"
)

// TestRetireWAL has another worker begin the next term while a leader looks for the slot that it
// is about to drop: the slot is the other one's by then.
func TestRetireWAL(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	queries := store.On(pool)
	begin := func(former int64) *leader.Term {
		begun, err := queries.BeginTerm(t.Context(), store.BeginTermParams{Former: former})
		require.NoError(t, err)
		require.Len(t, begun, 1)
		return &leader.Term{Number: begun[0].Term}
	}
	first := begin(0)
	server, err := wal.Inspect(t.Context(), pool)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, server.Slot)
	require.NoError(t, err)

	var next *leader.Term
	traced := config.Copy()
	traced.ConnConfig.Tracer = &afterQuery{text: "name: InspectReplication", do: func() { next = begin(first.Number) }}
	retiring, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	defer retiring.Close()
	n := &notifySource{pool: retiring, logger: slog.New(slog.DiscardHandler)}
	require.ErrorIs(t, n.retireWAL(t.Context(), first, ""), store.ErrLaterTerm)
	_, err = queries.InspectSlot(t.Context(), server.Slot)
	require.NoError(t, err, "the slot stays")

	require.NoError(t, n.retireWAL(t.Context(), next, ""))
	_, err = queries.InspectSlot(t.Context(), server.Slot)
	require.ErrorIs(t, err, pgx.ErrNoRows)
}
