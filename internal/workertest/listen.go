package workertest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// Listen hands each notification of the channels to receive, in order, until the test ends.
// It calls receive on a goroutine of its own.
func Listen(t testing.TB, url string, channels []string, receive func(*pgconn.Notification)) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	for _, channel := range channels {
		_, err := conn.Exec(t.Context(), "LISTEN "+channel)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			receive(n)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = conn.Close(context.Background())
	})
}
