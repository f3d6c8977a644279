package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/observe"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// TestMembership has a worker look while another one comes with a newer environment, and goes.
func TestMembership(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	former, newer := []provider.Desired{{Name: "a", BaseURL: "https://a/"}}, []provider.Desired{{Name: "a", BaseURL: "https://new/"}}
	hasher, err := store.On(pool).Hasher(t.Context())
	require.NoError(t, err)
	take := func(desired []provider.Desired, m *rollout.Member) {
		t.Helper()
		_, err := m.Take(t.Context(), pool, hasher, desired)
		require.NoError(t, err)
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	h := &health{logger: logger}
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: &statusPage{}, health: h}
	member := rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds)
	verifier := verify.New(pool, former, drift.IgnoreCredentials, logger, metrics)
	verifier.JoinAs(member)
	described := 0
	m := &membership{
		member: member, pool: pool, verifier: verifier, health: h, metrics: metrics, report: &report{supervisor: describing(func() { described++ })},
		logger: logger, woken: make(chan struct{}, 1),
	}
	h.setListening(nil)
	h.setVerified(true, nil)
	look := func() {
		t.Helper()
		require.Positive(t, m.look(t.Context()))
		m.show(t.Context())
	}
	take(former, member)
	look()
	require.Empty(t, h.remarks())
	require.Empty(t, log.String())

	other := rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds)
	take(newer, other)
	for range 2 {
		look()
	}
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("the environment is older than that of another worker")))
	require.Contains(t, log.String(), "newer_worker="+other.ID().String())
	require.Equal(t, 1, described)
	require.NoError(t, h.ready(), "the leader alerts")
	require.Regexp(t, "^environment: older than that of worker "+other.ID().String()+` of role "\w+", which is newer since .*: this worker seeds, alerts and applies nothing$`, h.remarks()[0])
	require.Equal(t, other.ID().String(), h.worker().Older.Worker)
	h.setLeader(errors.New("no worker has led for 7s"))
	require.ErrorContains(t, h.ready(), "no worker has led for 7s; this environment is older than that of worker "+other.ID().String())
	h.setLeader(nil)

	_, err = pool.Exec(t.Context(), `DELETE FROM provwatch.workers WHERE worker = $1`, other.ID())
	require.NoError(t, err)
	look()
	require.Contains(t, log.String(), "the environment is no longer older than another one")
	require.Empty(t, h.remarks())
	require.Nil(t, h.worker().Older)
	require.Equal(t, 2, described)

	// A refresh that fails is logged once, and retried.
	_, err = pool.Exec(t.Context(), `ALTER TABLE provwatch.workers RENAME TO gone`)
	require.NoError(t, err)
	for range 2 {
		require.LessOrEqual(t, m.look(t.Context()), membershipRetry)
	}
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("could not record that this worker is there")))
}

// TestMembershipRuns has a worker that is woken, and forgets what former ones have left.
func TestMembershipRuns(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	leave := func(ages ...string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), `INSERT INTO provwatch.workers (worker, digest, seen_at) SELECT gen_random_uuid(), 'x', now() - age::interval FROM unnest($1::text[]) AS age`, ages)
		require.NoError(t, err)
	}
	leave("2 days", "1 hour")
	logger := slog.New(slog.DiscardHandler)
	h := &health{}
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: &statusPage{}, health: h}
	desired := []provider.Desired{{Name: "a", BaseURL: "https://a/"}}
	member := rollout.NewMember(uuid.New(), time.Hour, rollout.Seeds)
	verifier := verify.New(pool, desired, drift.IgnoreCredentials, logger, metrics)
	verifier.JoinAs(member)
	m := &membership{
		member: member, pool: pool, verifier: verifier, health: h, metrics: metrics, report: &report{supervisor: describing(func() {})},
		logger: logger, forgets: 20 * time.Millisecond, woken: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { m.run(ctx); close(ended) }()
	seen := func() (n int) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM provwatch.workers`).Scan(&n))
		return n
	}
	waittest.Until(t, func() bool { return seen() == 2 }, "the old one is forgotten, and this one is there")
	leave("25 hours", "23 hours")
	waittest.Until(t, func() bool { return seen() == 3 }, "it goes on forgetting")
	hasher, err := store.On(pool).Hasher(t.Context())
	require.NoError(t, err)
	_, err = member.Take(t.Context(), pool, hasher, desired)
	require.NoError(t, err)
	_, err = rollout.NewMember(uuid.New(), time.Hour, rollout.Seeds).Take(t.Context(), pool, hasher, nil)
	require.NoError(t, err)
	m.wake()
	m.wake()
	waittest.Until(t, h.isOlder, "it looks long before it is due")
	cancel()
	waittest.Closed(t, ended, "it ends")
}

// TestMembershipFlood has any role notify a worker all the time: the others see that it is there
// all the same.
func TestMembershipFlood(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	logger := slog.New(slog.DiscardHandler)
	h := &health{}
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: &statusPage{}, health: h}
	member := rollout.NewMember(uuid.New(), rollout.MinWindow, rollout.Seeds)
	verifier := verify.New(pool, nil, drift.IgnoreCredentials, logger, metrics)
	verifier.JoinAs(member)
	m := &membership{
		member: member, pool: pool, verifier: verifier, health: h, metrics: metrics, report: &report{supervisor: describing(func() {})},
		logger: logger, forgets: time.Hour, woken: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { m.run(ctx); close(ended) }()
	for range 1000 {
		m.woken <- struct{}{} // and it has taken the one before
	}
	var flooded time.Time
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&flooded))
	waittest.Until(t, func() bool {
		var seen bool
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce(max(seen_at) > $1, false) FROM provwatch.workers`, flooded).Scan(&seen))
		return seen
	}, "it shows that it is there")
	cancel()
	waittest.Closed(t, ended, "it ends")
}
