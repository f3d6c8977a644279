package wal

import (
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/listener"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// unmeasured measures nothing.
type unmeasured struct{ verify.Metrics }

func (unmeasured) SlotObserved(SlotStatus)                 {}
func (unmeasured) TransactionsHandled(int)                 {}
func (unmeasured) DriftsObserved(map[provider.Kind]int)    {}
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
				Source: &Source{
					Pool: pool, Verifier: verify.New(pool, nil, verify.IgnoreCredentials, slog.New(slog.DiscardHandler), unmeasured{}),
					Pending: listener.NewPending(), Metrics: unmeasured{}, Term: &leader.Term{},
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
		return &session{Source: &Source{Pool: pool, Term: &leader.Term{Number: term}}, server: Server{Slot: "s"}, mirror: newMirror(hasher), stored: 0x10}
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
