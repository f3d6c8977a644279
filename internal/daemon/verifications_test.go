package daemon

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/observe"
	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// TestNoteVerified requires that only the leader of the current term records that everything
// was verified. A worker that takes itself for the leader records nothing.
func TestNoteVerified(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	verifiedAt := func() (at *time.Time) {
		t.Helper()
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT verified_at FROM provwatch.alert_counter`).Scan(&at))
		return at
	}
	_, err := pool.Exec(t.Context(), `UPDATE provwatch.alert_counter SET term = 7`)
	require.NoError(t, err)
	leads := func(term int64) *verifications {
		v := &verifications{logger: slog.New(slog.DiscardHandler), pool: pool, leadership: &leadership{}}
		v.leadership.term.Store(&leader.Term{Number: term})
		return v
	}
	leads(6).record(t.Context())
	require.Nil(t, verifiedAt(), "it no longer leads, and has not noticed")

	standby := leads(7)
	standby.leadership.term.Store(nil)
	standby.record(t.Context())
	require.Nil(t, verifiedAt())

	v := leads(7)
	v.record(t.Context())
	first := verifiedAt()
	require.NotNil(t, first)
	v.recorded = time.Now().Add(time.Hour) // however slow the machine is
	v.record(t.Context())
	require.Equal(t, first, verifiedAt(), "a flood of verifications is none of writes")
	v.recorded = time.Time{}
	v.record(t.Context())
	require.True(t, verifiedAt().After(*first))
}

// TestEventsAfterVerification requires that a worker publishes that it has reconnected, or that it
// has read its environment again, after a verification of everything that began after that.
func TestEventsAfterVerification(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	logger := slog.New(slog.DiscardHandler)
	h, shared, page, pending := &health{}, &leadership{}, &statusPage{}, verify.NewQueue()
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: page, health: h}
	verifier := verify.New(pool, nil, drift.IgnoreCredentials, logger, metrics)
	v := &verifications{
		pool: pool, database: config, verifier: verifier, deliverer: audit.NewDeliverer(pool, logger, nil), leadership: shared,
		faults: &faults{privileges: &privileges{health: h}, queue: &notifyQueue{}}, encryption: &encryption{observe: true},
		publisher: &publisher{pool: pool, verifier: verifier, leadership: shared, logger: logger},
		health:    h, liveness: &liveness{}, page: page, report: &report{supervisor: describing(func() {})}, logger: logger,
		booted: true,
	}
	session := &hints{pending: pending, metrics: metrics, health: h}
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), "LISTEN "+string(pubsub.Statuses))
	require.NoError(t, err)
	ends := func(request verify.Request) {
		v.Verified(t.Context(), request, nil)
		pending.Done()
		require.NoError(t, pubsub.Publish(t.Context(), pool, pubsub.Statuses, "verified"))
	}

	pending.Add(verify.Everything(pubsub.SourceResync))
	underWay, ok := pending.Get()
	require.True(t, ok)
	session.Listening(true)
	pending.Add(verify.Everything(pubsub.SourceReload).After(verify.Reloaded)) // as a reload does
	ends(underWay)
	next, ok := pending.Get()
	require.True(t, ok)
	ends(next)
	ends(verify.Everything(pubsub.SourceResync))

	var published []string
	for waiting := waittest.Context(t); len(published) < 5; {
		n, err := conn.WaitForNotification(waiting)
		require.NoError(t, err)
		event := n.Payload
		for _, known := range []pubsub.Event{pubsub.EventReconnected, pubsub.EventReloaded} {
			if strings.Contains(event, `"event":"`+string(known)+`"`) {
				event = string(known)
			}
		}
		published = append(published, event)
	}
	require.Equal(t, []string{"verified", "reconnected", "reloaded", "verified", "verified"}, published)
}
