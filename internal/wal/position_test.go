package wal

import (
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/store"
)

func TestPosition(t *testing.T) {
	t.Parallel()
	t.Run("StoredBeforeConfirmed", testPositionStoredBeforeConfirmed)
	t.Run("FormerLeader", testPositionFormerLeader)
	t.Run("MarkedMeanwhile", testPositionMarkedMeanwhile)
}

// testPositionStoredBeforeConfirmed has a stream that shows how far the WAL goes while
// nothing of it concerns the providers.
func testPositionStoredBeforeConfirmed(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	queries := store.On(pool)
	startPosition(t, queries)
	h, _ := newTestHandler(pool)
	p := h.applier.position
	p.system = 7
	require.NoError(t, h.applier.confirmer.begin(t.Context(), 0x10, 0x10))
	at := pglogrepl.LSN(0x10)
	passes := func(bytes pglogrepl.LSN, stored bool) {
		t.Helper()
		before := p.stored
		at += bytes
		require.NoError(t, h.apply(t.Context(), []event{{passed: at}}))
		want := before
		if stored {
			want = at
		}
		requirePosition(t, queries, want)
		require.Equal(t, want, h.applier.confirmer.marks.confirmed.load(), "no more is confirmed than is stored")
		require.Equal(t, at, p.applied)
	}
	passes(leastBytes, false)
	passes(leastBytes, false)
	p.storedAt = p.storedAt.Add(-idleInterval)
	passes(0x100, true)
	p.storedAt = p.storedAt.Add(-time.Hour)
	passes(leastBytes-1, false)
	passes(1, true)
	passes(idleBytes-1, false)
	passes(1, true)
	p.maxLag = 4 * leastBytes
	passes(leastBytes-1, false)
	passes(1, true)
	position, err := queries.ReadWALPosition(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, position.SystemIdentifier)
	require.False(t, position.IsFuture)
	_, err = pool.Exec(t.Context(), `UPDATE provwatch.wal_position SET applied_lsn = 'FFFFFFFF/0'`)
	require.NoError(t, err)
	position, err = queries.ReadWALPosition(t.Context())
	require.NoError(t, err)
	require.True(t, position.IsFuture)
}

// testPositionFormerLeader has a position that moves a transaction after the next term has
// begun, as after a freeze.
func testPositionFormerLeader(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	queries := store.On(pool)
	startPosition(t, queries)
	begun, err := queries.BeginTerm(t.Context(), store.BeginTermParams{})
	require.NoError(t, err)
	of := func(term int64) *position {
		return &position{pool: pool, term: &leader.Term{Number: term}, slot: "s", stored: 0x10, applied: 0x30}
	}
	require.ErrorContains(t, of(begun[0].Term-1).store(t.Context()), "later term")
	position, err := queries.ReadWALPosition(t.Context())
	require.NoError(t, err)
	require.Equal(t, "0/10", position.AppliedLsn)
	started, err := queries.StartWALPosition(t.Context(), store.StartWALPositionParams{Slot: "another", AppliedLsn: "0/20", Term: begun[0].Term - 1})
	require.NoError(t, err)
	require.Zero(t, started)
	require.NoError(t, queries.MarkGap(t.Context(), store.MarkGapParams{Reason: "none", Term: begun[0].Term - 1}))
	position, err = queries.ReadWALPosition(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"s", "0/10", ""}, []string{position.Slot, position.AppliedLsn, position.Gap})
	require.NoError(t, of(begun[0].Term).store(t.Context()))
}

// testPositionMarkedMeanwhile has another session mark a gap while a stream records. Nothing
// more is recorded from that stream.
func testPositionMarkedMeanwhile(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	queries := store.On(pool)
	startPosition(t, queries)
	h, _ := newTestHandler(pool)
	p := h.applier.position
	p.applied = 0x20
	require.NoError(t, p.store(t.Context()))
	require.NoError(t, queries.MarkGap(t.Context(), store.MarkGapParams{Reason: "the publication had to be created again"}))
	p.applied = 0x30
	require.Equal(t, "the publication had to be created again", asGap(p.store(t.Context())).reason)
	requirePosition(t, queries, 0x20)
}
