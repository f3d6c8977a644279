package wal

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
)

// TestEnvironmentMarker applies a transaction in which another worker has recorded its
// environment as the newest, and transactions that only look like one.
func TestEnvironmentMarker(t *testing.T) {
	t.Parallel()
	list := transactions(t, recordings(t)["postgres18_rows"])
	newer := recordedAWS
	newer.BaseURL = "https://newer/"
	newApplier := func(t *testing.T) (*applier, *pgxpool.Pool) {
		pool, _ := pgtest.NewPool(t)
		startPosition(t, store.On(pool))
		h, _ := newTestHandler(pool, recordedAWS)
		h.applier.verifier.JoinAs(rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds))
		require.NoError(t, h.applier.verifier.TakeOver(t.Context(), 0, pubsub.SourceBoot))
		_, err := h.applier.apply(t.Context(), []event{{transaction: list[0]}})
		require.NoError(t, err)
		return h.applier, pool
	}
	// record commits a transaction that records the newer environment, and returns its id.
	record := func(t *testing.T, pool *pgxpool.Pool) (xid uint32) {
		hasher, err := store.On(pool).Hasher(t.Context())
		require.NoError(t, err)
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			if _, err := rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds).Take(t.Context(), tx, hasher, []provider.Desired{newer}); err != nil {
				return err
			}
			return tx.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&xid)
		}))
		return xid
	}
	marked := func(tx *transaction, xid uint32) *transaction {
		with := *tx
		with.xid, with.markers = xid, []string{environmentMarker}
		return &with
	}
	t.Run("Newer", func(t *testing.T) {
		t.Parallel()
		a, pool := newApplier(t)
		_, err := a.apply(t.Context(), []event{{transaction: marked(list[1], record(t, pool))}})
		require.True(t, rollout.IsOlder(err))
		require.Empty(t, alertsOf(t, pool))
		requirePosition(t, store.On(pool), list[0].end)
	})
	t.Run("NewerInParts", func(t *testing.T) {
		t.Parallel()
		a, pool := newApplier(t)
		large, err := a.beginLarge(t.Context())
		require.NoError(t, err)
		defer large.rollback(t.Context())
		tx := marked(list[1], record(t, pool))
		require.NoError(t, large.take(t.Context(), tx))
		_, err = large.commit(t.Context(), tx)
		require.True(t, rollout.IsOlder(err))
		require.Empty(t, alertsOf(t, pool))
	})
	t.Run("Forged", func(t *testing.T) {
		t.Parallel()
		a, pool := newApplier(t)
		var xid uint32
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&xid))
		seen, err := a.apply(t.Context(), []event{{transaction: marked(list[1], xid)}})
		require.NoError(t, err)
		require.Equal(t, 1, seen.handled)
		require.Len(t, alertsOf(t, pool), 1)
		require.Equal(t, string(drift.Disabled), alertsOf(t, pool)[0].Kind)
	})
	t.Run("Recorded", func(t *testing.T) {
		t.Parallel()
		a, pool := newApplier(t)
		a.position.isAt(list[1].end)
		_, err := a.apply(t.Context(), []event{{transaction: marked(list[1], record(t, pool))}})
		require.NoError(t, err, "what is recorded already is passed over")
	})
}
