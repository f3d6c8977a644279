package daemon

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

func TestPublisher(t *testing.T) {
	t.Parallel()
	t.Run("LostConnections", testPublisherLostConnections)
	t.Run("InterruptedByStop", testPublisherInterruptedByStop)
}

// testPublisherLostConnections ends every connection of the pool while they are too new for the
// pool to look whether they still live.
func testPublisherLostConnections(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	listening, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listening.Close(context.Background()) })
	_, err = listening.Exec(t.Context(), "LISTEN "+string(pubsub.Statuses))
	require.NoError(t, err)

	var held []*pgxpool.Conn
	for range config.MaxConns {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	for _, conn := range held {
		_, err := listening.Exec(t.Context(), `SELECT pg_terminate_backend($1, 10000)`, int32(conn.Conn().PgConn().PID()))
		require.NoError(t, err)
	}
	for _, conn := range held {
		conn.Release()
	}
	p := &publisher{logger: slog.New(slog.DiscardHandler), pool: pool, leadership: &leadership{},
		verifier: verify.New(pool, nil, drift.IgnoreCredentials, slog.New(slog.DiscardHandler), nil)}
	p.publish(t.Context(), pubsub.EventLeading, "")
	notification, err := listening.WaitForNotification(waittest.Context(t))
	require.NoError(t, err)
	require.Contains(t, notification.Payload, `"event":"leading"`)
}

func testPublisherInterruptedByStop(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	var log strings.Builder
	p := &publisher{logger: slog.New(slog.NewTextHandler(&log, nil)), pool: pool, leadership: &leadership{},
		verifier: verify.New(pool, nil, drift.IgnoreCredentials, slog.New(slog.DiscardHandler), nil)}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	p.publish(ctx, pubsub.EventReady, "")
	require.Empty(t, log.String())

	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	p.publish(late, pubsub.EventStopping, "")
	require.Contains(t, log.String(), "status not published")
}
