package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/observe"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// TestStepsDown has a worker get the leadership whose environment is older than another one's. It
// gives the term up, also where it learns before it does so that the other worker is there no more.
func TestStepsDown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lastsOlder bool
		logs       string
	}{
		"Older":     {true, "stepping down for a worker with a newer environment"},
		"Overtaken": {false, `msg="stepping down" reason="another worker had a newer environment"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testStepsDown(t, c.lastsOlder, c.logs)
		})
	}
}

func testStepsDown(t *testing.T, lastsOlder bool, logs string) {
	t.Helper()
	pool, config := pgtest.NewPool(t)
	hasher, err := store.On(pool).Hasher(t.Context())
	require.NoError(t, err)
	former, newer := []provider.Desired{{Name: "a", BaseURL: "https://a/"}}, []provider.Desired{{Name: "a", BaseURL: "https://new/"}}
	member := rollout.NewMember(uuid.New(), time.Hour, rollout.Seeds)
	_, err = member.Take(t.Context(), pool, hasher, former)
	require.NoError(t, err)
	_, err = rollout.NewMember(uuid.New(), time.Hour, rollout.Seeds).Take(t.Context(), pool, hasher, newer)
	require.NoError(t, err)

	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	h := &health{logger: logger}
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: &statusPage{}, health: h}
	verifier := verify.New(pool, former, drift.IgnoreCredentials, logger, metrics)
	verifier.JoinAs(member)
	known := member
	if !lastsOlder {
		known = rollout.NewMember(uuid.New(), time.Hour, rollout.Seeds) // as the member is in the next moment
	}
	elector := leader.NewElector(leader.NewLimits(time.Hour, time.Hour, 10*time.Second), logger, &leaderCheck{pool: pool, verifier: verifier, health: h, logger: logger})
	shared := &leadership{}
	p := &participant{
		worker: member.ID(), elector: elector, leadership: shared, metrics: metrics, report: &report{supervisor: describing(func() {})}, logger: logger,
		publisher: &publisher{pool: pool, verifier: verifier, leadership: shared, logger: logger},
		leading: &leading{
			verifier: verifier, member: known, preparation: &preparation{logger: logger},
			ability: &abilityCheck{pool: pool, health: h, takeOverAfter: time.Hour, yield: newYield(time.Hour)},
		},
	}
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	attend := func() {
		t.Helper()
		_, err := elector.Attend(t.Context(), conn)
		require.NoError(t, err)
	}
	attend()
	term := waittest.Receive(t, elector.Terms(), "it leads")
	led := make(chan bool, 1)
	go func() { led <- p.lead(t.Context(), term, pubsub.SourceBoot) }()
	waittest.Until(t, func() bool {
		attend()
		return term.Context().Err() != nil
	}, "the term ends")
	require.True(t, waittest.Receive(t, led, "it stands by"))
	require.ErrorIs(t, context.Cause(term.Context()), leader.ErrSteppedDown)
	require.Contains(t, log.String(), logs)
	require.NotContains(t, log.String(), "resigning")
	require.False(t, conn.IsClosed(), "the session goes on")
	var held int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype = 'advisory'`, conn.PgConn().PID()).Scan(&held))
	require.Zero(t, held)
}
