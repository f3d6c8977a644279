package pubsub_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// connections returns one connection to publish on and one that listens on the
// channel, both to a database of the test's own.
func connections(t *testing.T, channel pubsub.Channel) (publishing, listening *pgx.Conn) {
	t.Helper()
	url := pgtest.NewDatabase(t)
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	publishing, listening = connect(), connect()
	_, err := listening.Exec(t.Context(), "LISTEN "+string(channel))
	require.NoError(t, err)
	return publishing, listening
}

// receive returns the next n payloads.
func receive(t *testing.T, conn *pgx.Conn, n int) []string {
	t.Helper()
	ctx := waittest.Context(t)
	var payloads []string
	for len(payloads) < n {
		notification, err := conn.WaitForNotification(ctx)
		require.NoError(t, err, "after %d payloads", len(payloads))
		payloads = append(payloads, notification.Payload)
	}
	return payloads
}

func TestPublish(t *testing.T) {
	t.Parallel()
	t.Run("Rollback", testPublishRollback)
	t.Run("CommitInOrder", testPublishCommitInOrder)
	t.Run("EmptyList", testPublishEmptyList)
	t.Run("LongestPayload", testPublishLongestPayload)
}

func testPublishRollback(t *testing.T) {
	t.Parallel()
	publishing, listening := connections(t, pubsub.DriftAlerts)
	broken := errors.New("broken off")
	err := pgx.BeginFunc(t.Context(), publishing, func(tx pgx.Tx) error {
		require.NoError(t, pubsub.Publish(t.Context(), tx, pubsub.DriftAlerts, "rolled back"))
		return broken
	})
	require.ErrorIs(t, err, broken)
	require.NoError(t, pubsub.Publish(t.Context(), publishing, pubsub.DriftAlerts, "committed"))
	require.Equal(t, []string{"committed"}, receive(t, listening, 1), "notifications are in commit order")
}

// testPublishCommitInOrder checks that the payloads of one transaction arrive at its
// commit, in order.
func testPublishCommitInOrder(t *testing.T) {
	t.Parallel()
	publishing, listening := connections(t, pubsub.AuditEntries)
	other, err := pgx.ConnectConfig(t.Context(), publishing.Config())
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close(context.Background()) })
	payloads := make([]string, 12_000)
	for i := range payloads {
		payloads[i] = strconv.Itoa(i) + strings.Repeat(" 🔑\"'\\", 3)
	}
	err = pgx.BeginFunc(t.Context(), publishing, func(tx pgx.Tx) error {
		if err := pubsub.Publish(t.Context(), tx, pubsub.AuditEntries, payloads...); err != nil {
			return err
		}
		// Nothing goes out before the commit: what commits first arrives first.
		return pubsub.Publish(t.Context(), other, pubsub.AuditEntries, "committed before")
	})
	require.NoError(t, err)
	require.Equal(t, []string{"committed before"}, receive(t, listening, 1))
	require.Equal(t, payloads, receive(t, listening, len(payloads)))
}

func testPublishEmptyList(t *testing.T) {
	t.Parallel()
	publishing, listening := connections(t, pubsub.Seeds)
	require.NoError(t, pubsub.Publish(t.Context(), publishing, pubsub.Seeds))
	require.NoError(t, pubsub.Publish(t.Context(), publishing, pubsub.Seeds, "", "one"))
	require.Equal(t, []string{"", "one"}, receive(t, listening, 2))
}

func testPublishLongestPayload(t *testing.T) {
	t.Parallel()
	publishing, listening := connections(t, pubsub.Statuses)
	longest := strings.Repeat("x", pubsub.MaxPayload)
	require.NoError(t, pubsub.Publish(t.Context(), publishing, pubsub.Statuses, longest))
	require.Equal(t, []string{longest}, receive(t, listening, 1))
	// The error names the channel and goes on being typed.
	err := pubsub.Publish(t.Context(), publishing, pubsub.Statuses, strings.Repeat("x", 8000))
	require.ErrorContains(t, err, "publish on channel provwatch_status")
}
