package wal

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/store"
	"provwatch/internal/waittest"
)

// newSlotSession returns a session that has a replication connection, and has neither slot
// nor mirror yet. Its pool has one connection.
func newSlotSession(t *testing.T) (*session, *pgxpool.Pool) {
	t.Helper()
	pool, config := pgtest.NewPool(t)
	hasher, err := store.On(pool).Hasher(t.Context())
	require.NoError(t, err)
	_, server, err := inspect(t.Context(), pool)
	require.NoError(t, err)
	one := config.Copy()
	one.MaxConns = 1
	narrow, err := pgxpool.NewWithConfig(t.Context(), one)
	require.NoError(t, err)
	t.Cleanup(narrow.Close)
	replication := postgres.ReplicationConfig(config)
	conn, err := pgconn.ConnectConfig(t.Context(), &replication.Config)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close(context.Background())
		_, err := DropSlot(context.Background(), pool, server.Slot)
		require.NoError(t, err)
	})
	return &session{Reader: &Reader{Pool: narrow, Term: &leader.Term{}}, server: server, conn: conn, hasher: hasher}, pool
}

// TestANewMirrorIsAsOfTheSlotsStart changes a row after the slot was made and before the
// mirror reads it: the stream shows that change.
func TestANewMirrorIsAsOfTheSlotsStart(t *testing.T) {
	t.Parallel()
	s, pool := newSlotSession(t)
	id := uuid.New()
	_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', 'openai', 'https://h/')`, id)
	require.NoError(t, err)
	held, err := s.Pool.Acquire(t.Context())
	require.NoError(t, err)
	var group conc.WaitGroup
	var start pglogrepl.LSN
	var failure error
	group.Go(func() { _, start, failure = s.createSlot(t.Context(), "") })
	waittest.Until(t, func() bool {
		var made int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn IS NOT NULL AND NOT active`,
			s.server.Slot).Scan(&made))
		return made == 1
	}, "the slot is made")
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET enabled = false WHERE id = $1`, id)
	require.NoError(t, err)
	held.Release()
	group.Wait()
	require.NoError(t, failure)
	var enabled bool
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT enabled FROM provwatch.wal_mirror WHERE id = $1`, id).Scan(&enabled))
	require.True(t, enabled, "the mirror has what the stream shows later")
	position, err := store.On(pool).ReadWALPosition(t.Context())
	require.NoError(t, err)
	require.Equal(t, start.String(), position.AppliedLsn)
}

// TestASlotThatIsMadeAnewBeforeItStreamsIsAGap has a former leader that makes the slot anew
// after it was looked at: the stream lacks what was committed before.
func TestASlotThatIsMadeAnewBeforeItStreamsIsAGap(t *testing.T) {
	t.Parallel()
	s, pool := newSlotSession(t)
	_, start, err := s.createSlot(t.Context(), "")
	require.NoError(t, err)
	s.isAt(start)
	_, err = pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', 'openai', 'https://h/')`, uuid.New())
	require.NoError(t, err)
	for _, statement := range []string{"SELECT pg_drop_replication_slot($1)", "SELECT pg_create_logical_replication_slot($1, 'pgoutput')"} {
		_, err := pool.Exec(t.Context(), statement, s.server.Slot)
		require.NoError(t, err)
	}
	var gap *gapError
	require.ErrorAs(t, s.startStream(t.Context()), &gap)
	require.Contains(t, gap.reason, "the worker was at "+start.String())
}
