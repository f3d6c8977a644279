package wal

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// counted is a [taker] that counts.
type counted struct {
	parts, idled int
	failed       error // of idle
}

func (c *counted) take(context.Context, *transaction) error { c.parts++; return nil }
func (c *counted) idle(context.Context) error               { c.idled++; return c.failed }

// TestIdleBetweenParts has parts between which the receiver passes over changes of other
// tables for a long time.
func TestIdleBetweenParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &handler{backlog: newBacklog()}
		part := func() event { return event{transaction: &transaction{more: true}} }
		last := event{transaction: &transaction{xid: 7}}
		go func() {
			for _, e := range []event{part(), last} {
				time.Sleep(4*partPause + time.Second)
				_, err := h.backlog.put(t.Context(), e)
				assert.NoError(t, err)
			}
		}()
		to := &counted{}
		ended, err := h.eachPart(t.Context(), part(), to)
		require.NoError(t, err)
		require.Equal(t, last.transaction, ended)
		require.Equal(t, 3, to.parts)
		require.Equal(t, 8, to.idled)

		failed := errors.New("the connection is lost")
		_, err = h.eachPart(t.Context(), part(), &counted{failed: failed})
		require.ErrorIs(t, err, failed)
	})
}

// TestHandler verifies what is pending beside the stream.
func TestHandler(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	startPosition(t, store.On(pool))
	h, reports := newTestHandler(pool, provider.Desired{Name: "gpt", Type: provider.OpenAI, BaseURL: "https://h/"})
	require.NoError(t, h.applier.verifier.TakeOver(t.Context(), 0, pubsub.SourceBoot))
	everything := verify.Everything(pubsub.SourceResync)
	begin := func() {
		h.pending.Add(everything)
		request, ok := h.pending.Get()
		require.True(t, ok)
		h.checker.take(request)
		require.NoError(t, h.verify(t.Context()))
		require.NotNil(t, h.stuck, "its marker can be lost")
	}
	marker := func(end pglogrepl.LSN) event {
		return event{transaction: &transaction{commit: end - 1, end: end, markers: []string{h.checker.current.token}}}
	}
	begin()
	require.NoError(t, h.take(t.Context(), event{transaction: &transaction{commit: 0x1f, end: 0x20, markers: []string{"another"}}}))
	require.Empty(t, reports.verified)
	h.pending.Add(everything)
	require.NoError(t, h.take(t.Context(), marker(0x30)))
	require.Equal(t, []verify.Request{everything}, reports.verified)
	require.Equal(t, []error{nil}, reports.failed)
	require.Nil(t, h.stuck)
	require.NotNil(t, h.pause, "the next verification waits")
	_, ok := h.pending.Get()
	require.True(t, ok, "the request is done, and what was added meanwhile is next")
	h.pending.Done()

	// A verification that fails is reported, and stays unfinished for the next attempt.
	begin()
	failing, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, h.finish(failing), context.Canceled)
	require.Len(t, reports.failed, 2)
	require.ErrorIs(t, reports.failed[1], context.Canceled)
	_, ok = h.checker.unfinished()
	require.True(t, ok)
}
