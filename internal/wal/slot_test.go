package wal

import (
	"context"
	"log/slog"
	"testing"

	"github.com/google/uuid"
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

// newTestOpener returns an opener, and a slot on a replication connection, which is not
// there yet. The pool of both has one connection.
func newTestOpener(t *testing.T) (*opener, *slot, *pgxpool.Pool) {
	t.Helper()
	pool, config := pgtest.NewPool(t)
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
	reader := &Reader{Pool: narrow, Term: &leader.Term{}, Logger: slog.New(slog.DiscardHandler), Metrics: unmeasured{}}
	return reader.newOpener(), &slot{server: server, pool: narrow, conn: conn}, pool
}

func TestSlotStart(t *testing.T) {
	t.Parallel()
	t.Run("NewMirror", testSlotStartNewMirror)
	t.Run("RecreatedSlot", testSlotStartRecreatedSlot)
}

// testSlotStartNewMirror changes a row after the slot was made and before the mirror reads
// it: the stream shows that change.
func testSlotStartNewMirror(t *testing.T) {
	t.Parallel()
	o, s, pool := newTestOpener(t)
	id := uuid.New()
	_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', 'openai', 'https://h/')`, id)
	require.NoError(t, err)
	held, err := s.pool.Acquire(t.Context())
	require.NoError(t, err)
	var group conc.WaitGroup
	var created createdSlot
	var failure error
	group.Go(func() {
		if created, failure = s.create(t.Context()); failure == nil {
			failure = o.count(t.Context(), s.server.Slot, created, storedState{}, newMirror(hasher))
		}
	})
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
	require.Equal(t, created.start.String(), position.AppliedLsn)
}

// testSlotStartRecreatedSlot has a former leader that creates the slot again after it was
// inspected: the stream lacks what was committed before.
func testSlotStartRecreatedSlot(t *testing.T) {
	t.Parallel()
	o, s, pool := newTestOpener(t)
	start, err := o.replace(t.Context(), s, storedState{}, newMirror(hasher))
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', 'openai', 'https://h/')`, uuid.New())
	require.NoError(t, err)
	for _, statement := range []string{"SELECT pg_drop_replication_slot($1)", "SELECT pg_create_logical_replication_slot($1, 'pgoutput')"} {
		_, err := pool.Exec(t.Context(), statement, s.server.Slot)
		require.NoError(t, err)
	}
	var gap *gapError
	require.ErrorAs(t, s.start(t.Context(), start), &gap)
	require.Contains(t, gap.reason, "the worker was at "+start.String())
}
