package wal

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func eventOf(size int) event {
	return event{transaction: &transaction{changes: []change{{put: &version{baseURL: strings.Repeat("u", size)}}}}}
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	t.Run("IsBounded", testBacklogIsBounded)
	t.Run("ReceiverStaysResponsive", testBacklogReceiverStaysResponsive)
}

func testBacklogIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBacklog()
		put := 0
		go func() {
			for range 4 {
				if added, err := b.put(t.Context(), eventOf(maxBacklog/2)); added && err == nil {
					put++
				}
			}
		}()
		synctest.Wait()
		require.Equal(t, 2, put)
		require.Len(t, b.events, 2)

		taken := <-b.events
		synctest.Wait()
		require.Equal(t, 2, put, "what is taken is in memory until it is done")
		b.done(taken)
		synctest.Wait()
		require.Equal(t, 3, put)

		b.done(<-b.events, <-b.events)
		synctest.Wait()
		require.Equal(t, 4, put)
		b.done(<-b.events)
		require.Zero(t, b.size.Load())
	})
}

// testBacklogReceiverStaysResponsive checks that a full backlog keeps the receiver
// responsive.
func testBacklogReceiverStaysResponsive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBacklog()
		added, err := b.put(t.Context(), eventOf(maxBacklog))
		require.NoError(t, err)
		require.True(t, added)
		began := time.Now()
		added, err = b.put(t.Context(), event{passed: 7})
		require.NoError(t, err)
		require.False(t, added)
		require.Equal(t, statusInterval, time.Since(began))

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = b.put(ctx, event{passed: 7})
		require.ErrorIs(t, err, context.Canceled)
	})
}
