package wal

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// unmeasured measures nothing.
type unmeasured struct{ verify.Metrics }

func (unmeasured) SlotObserved(SlotStatus)                 {}
func (unmeasured) TransactionsHandled(int)                 {}
func (unmeasured) DriftsObserved(map[drift.Kind]int)       {}
func (unmeasured) NotComparableObserved(map[string]string) {}

func startPosition(t *testing.T, queries *store.Queries) {
	t.Helper()
	started, err := queries.StartWALPosition(t.Context(), store.StartWALPositionParams{Slot: "s", AppliedLsn: "0/10"})
	require.NoError(t, err)
	require.EqualValues(t, 1, started)
}

// TestAKillLeavesNoRowUnreadUnsaid has a row of which the stream does not hold all, in a
// transaction of one part and in one of two, and a worker that is killed once it has
// recorded it: the next one must know of the gap, since the position is behind the row.
func TestAKillLeavesNoRowUnreadUnsaid(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string][]change{
		"one part":  {{put: &version{id: uuid.New(), kind: provider.OpenAI, nameUnchanged: true}}},
		"two parts": {{put: &version{id: uuid.New(), kind: provider.OpenAI, nameUnchanged: true}}, {put: &version{id: uuid.New(), kind: provider.OpenAI, name: "gpt"}}},
	} {
		t.Run(name, func(t *testing.T) {
			pool, _ := pgtest.NewPool(t)
			queries := store.On(pool)
			startPosition(t, queries)
			s := &session{
				Reader: &Reader{
					Pool: pool, Verifier: verify.New(pool, nil, drift.IgnoreCredentials, slog.New(slog.DiscardHandler), unmeasured{}),
					Pending: verify.NewQueue(), Metrics: unmeasured{}, Term: &leader.Term{},
				},
				server: Server{Slot: "s"}, hasher: hasher, mirror: newMirror(hasher), progress: func() {}, applied: 0x10, stored: 0x10,
			}
			var batch []event
			waiting := newBacklog()
			for i, c := range changes {
				e := event{transaction: &transaction{commit: 0x20, end: 0x30, changes: []change{c}}}
				if i < len(changes)-1 {
					e.transaction.more, e.transaction.end = true, 0
				}
				if i == 0 {
					batch = append(batch, e)
				} else {
					require.NoError(t, waiting.put(t.Context(), e, nil))
				}
			}
			_, err := s.recordAll(t.Context(), batch, waiting)
			var gap *gapError
			require.ErrorAs(t, err, &gap)
			position, err := queries.ReadWALPosition(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{"s", pglogrepl.LSN(0x30).String(), gap.reason}, []string{position.Slot, position.AppliedLsn, position.Gap})

			// What was said stays said until there is a new slot.
			require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return s.markUnread(t.Context(), tx, uuid.New()) }))
			again, err := queries.ReadWALPosition(t.Context())
			require.NoError(t, err)
			require.Equal(t, gap.reason, again.Gap)
		})
	}
}

// TestThePositionIsStoredBeforeItIsConfirmed has a session that is told how far the WAL
// goes while nothing of it concerns the providers.
func TestThePositionIsStoredBeforeItIsConfirmed(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	queries := store.On(pool)
	startPosition(t, queries)
	source := &Reader{Pool: pool, Pending: verify.NewQueue(), Metrics: unmeasured{}, Term: &leader.Term{}}
	s := &session{Reader: source, server: Server{Slot: "s"}, system: 7, hasher: hasher, mirror: newMirror(hasher), progress: func() {}, applied: 0x10}
	s.isAt(0x10)
	require.NoError(t, s.confirmBegun(t.Context(), nil))
	at := pglogrepl.LSN(0x10)
	passes := func(bytes pglogrepl.LSN, stored bool) {
		t.Helper()
		before := s.stored
		at += bytes
		require.NoError(t, s.record(t.Context(), []event{{passed: at}}))
		want := before
		if stored {
			want = at
		}
		position, err := queries.ReadWALPosition(t.Context())
		require.NoError(t, err)
		require.Equal(t, want.String(), position.AppliedLsn)
		require.EqualValues(t, want, s.confirmed.Load(), "no more is confirmed than is stored")
		require.Equal(t, at, s.applied)
	}
	passes(leastBytes, false)
	passes(leastBytes, false)
	s.storedAt = s.storedAt.Add(-idleInterval)
	passes(0x100, true)
	s.storedAt = s.storedAt.Add(-time.Hour)
	passes(leastBytes-1, false)
	passes(1, true)
	passes(idleBytes-1, false)
	passes(1, true)
	source.MaxLag = 4 * leastBytes
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

// TestWhyGap has what the server says of a slot.
func TestWhyGap(t *testing.T) {
	t.Parallel()
	server := Server{Slot: "s"}
	for name, c := range map[string]struct {
		change func(*store.ReadWALPositionRow, *store.InspectSlotRow)
		want   string
	}{
		"none":                 {func(*store.ReadWALPositionRow, *store.InspectSlotRow) {}, ""},
		"marked before":        {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.Gap = "it was lost" }, "it was lost"},
		"another slot":         {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.Slot = "other" }, "position of slot other"},
		"another server":       {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.SystemIdentifier = 8 }, "identifier is 8, and that of this one 7"},
		"a server not noted":   {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.SystemIdentifier = 0 }, ""},
		"the future":           {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.IsFuture = true }, "0/20 is ahead of the server's WAL"},
		"a slot behind":        {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.ConfirmedFlushLsn = "0/1F" }, ""},
		"a slot ahead":         {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.ConfirmedFlushLsn = "0/21" }, "at 0/21 and the worker was at 0/20: somebody else has advanced, read or created it, or the database was restored"},
		"a physical slot":      {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.IsOurs = false }, "not as the worker makes it"},
		"one that has nothing": {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.ConfirmedFlushLsn = "" }, "confirmed nothing"},
		"lost before 16":       {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.WalStatus = "lost" }, "(max_slot_wal_keep_size)"},
		"removed":              {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "wal_removed" }, "(max_slot_wal_keep_size)"},
		"idle":                 {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "idle_timeout" }, "(idle_replication_slot_timeout)"},
		"wal_level":            {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "wal_level_insufficient" }, "wal_level was not logical"},
		"conflicting":          {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "conflicting" }, "recovery (conflicting)"},
		"of a later version":   {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "a_new_one" }, "slot (a_new_one)"},
	} {
		position := store.ReadWALPositionRow{Slot: "s", AppliedLsn: "0/20", SystemIdentifier: 7}
		slot := store.InspectSlotRow{WalStatus: "reserved", ConfirmedFlushLsn: "0/20", IsOurs: true}
		c.change(&position, &slot)
		got := whyGap(server, 7, position, &slot)
		if c.want == "" {
			require.Empty(t, got, name)
			continue
		}
		require.Contains(t, got, c.want, name)
	}
	require.Equal(t, slotGone, whyGap(server, 0, store.ReadWALPositionRow{Slot: "s", SystemIdentifier: 7}, nil))
}

// TestAFormerLeaderMovesNoPosition has a session that applies a transaction after the next
// term has begun, as after a freeze.
func TestAFormerLeaderMovesNoPosition(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	queries := store.On(pool)
	startPosition(t, queries)
	hasher, err := queries.Hasher(t.Context())
	require.NoError(t, err)
	begun, err := queries.BeginTerm(t.Context(), store.BeginTermParams{})
	require.NoError(t, err)
	session := func(term int64) *session {
		return &session{Reader: &Reader{Pool: pool, Term: &leader.Term{Number: term}}, server: Server{Slot: "s"}, mirror: newMirror(hasher), stored: 0x10}
	}
	move := func(pgx.Tx) (pglogrepl.LSN, error) { return 0x30, nil }
	require.ErrorContains(t, session(begun[0].Term-1).transact(t.Context(), move), "later term")
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
	require.NoError(t, session(begun[0].Term).transact(t.Context(), move))
}
