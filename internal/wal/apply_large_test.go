package wal

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/rollout"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/store"
	"provwatch/internal/waittest"
)

// TestLargeTransactionBesideApply has a reload apply its environment between records of a
// large transaction. The apply waits for the base that the first one has written, and holds the
// row of the worker.
func TestLargeTransactionBesideApply(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	startPosition(t, store.On(pool))
	named := func(name, baseURL string) provider.Desired {
		return provider.Desired{Name: name, Type: provider.OpenAI, BaseURL: baseURL}
	}
	former, newer := []provider.Desired{named("a", "https://h/"), named("b", "https://h/")}, []provider.Desired{named("a", "https://new/"), named("b", "https://h/")}
	member := rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds)
	_, err := seed.Seed(t.Context(), pool, former, false, slog.New(slog.DiscardHandler), seed.As(member))
	require.NoError(t, err)
	// The environment has not named it for a while, so that the next agreement writes its base.
	_, err = pool.Exec(t.Context(), `UPDATE provwatch.base_pairs SET named = false WHERE provider = 'a'`)
	require.NoError(t, err)
	idOf := func(name string) (id uuid.UUID) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT id FROM public.ai_providers WHERE name = $1`, name).Scan(&id))
		return id
	}
	h, _ := newTestHandler(pool, former...)
	a := h.applier
	a.verifier.JoinAs(member)
	require.NoError(t, a.verifier.TakeOver(t.Context(), 0, pubsub.SourceBoot))

	large, err := a.beginLarge(t.Context())
	require.NoError(t, err)
	defer large.rollback(t.Context())
	parts := &transaction{commit: 0x28, end: 0x30, xid: 7, committedAt: time.Now(), changes: []change{
		{put: fullRow{name: "a", baseURL: "https://h/", enabled: true}.version(idOf("a"))}, {put: fullRow{name: "b", baseURL: "https://h/"}.version(idOf("b"))},
	}}
	require.NoError(t, large.take(t.Context(), parts))
	record := func(name string) error {
		return large.record(t.Context(), parts, []drift.Subject{{Provider: name}}, nil, []string{name})
	}
	require.NoError(t, a.verifier.TakeGeneration(t.Context()))
	require.NoError(t, record("a"))
	// A reload of other keys alone does not break the transaction off.
	rotated := slices.Clone(former)
	rotated[0].Keys = []secret.Text{secret.New("sk-rotated-0123456789")}
	a.verifier.SetDesired(rotated)
	require.NoError(t, record("b"))

	a.verifier.BeginApply(newer)
	applied := make(chan error, 1)
	go func() {
		_, err := reconcile.Apply(context.WithoutCancel(t.Context()), pool, dbcrypttest.NewRing(t), newer, reconcile.ApplyRequest{Member: member, Environment: newer})
		applied <- err
	}()
	waittest.Until(t, func() (waits bool) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%setBases%')`).Scan(&waits))
		return waits
	}, "the apply waits for the base")
	require.ErrorContains(t, record("b"), "the environment was replaced meanwhile")
	large.rollback(t.Context())
	require.NoError(t, waittest.Receive(t, applied, "the apply ends"))

	// The stream begins again, with the environment in use by then.
	h, _ = newTestHandler(pool, newer...)
	a = h.applier
	a.verifier.JoinAs(member)
	require.NoError(t, a.verifier.TakeOver(t.Context(), 0, pubsub.SourceBoot))
	large, err = a.beginLarge(t.Context())
	require.NoError(t, err)
	defer large.rollback(t.Context())
	require.NoError(t, large.take(t.Context(), parts))
	_, err = large.commit(t.Context(), parts)
	require.NoError(t, err)
	require.Equal(t, []appliedAlert{{string(drift.Disabled), parts.end.String(), int64(parts.xid)}}, alertsOf(t, pool), "the apply came after what the stream shows of a")
}
