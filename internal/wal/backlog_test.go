package wal

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func eventOf(size int) event {
	return event{transaction: &transaction{changes: []change{{put: &version{baseURL: strings.Repeat("u", size)}}}}}
}

func TestBacklogIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBacklog()
		idled := 0
		idle := func() error { idled++; return nil }
		put := 0
		go func() {
			for range 4 {
				if b.put(t.Context(), eventOf(maxBacklog/2), idle) == nil {
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
		require.Zero(t, idled)
	})
}

func TestAFullBacklogKeepsTheReceiverResponsive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBacklog()
		failed := errors.New("the connection is lost")
		idled := 0
		idle := func() error {
			if idled++; idled == 3 {
				return failed
			}
			return nil
		}
		require.NoError(t, b.put(t.Context(), eventOf(maxBacklog), idle))
		require.ErrorIs(t, b.put(t.Context(), event{passed: 7}, idle), failed)
		require.Equal(t, 3, idled)
	})
}
