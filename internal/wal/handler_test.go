package wal

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

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

// TestALargeTransactionIsNotIdleForLong has parts between which the receiver passes over
// changes of other tables for a long time.
func TestALargeTransactionIsNotIdleForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &handler{backlog: newBacklog()}
		part := func() event { return event{transaction: &transaction{more: true}} }
		last := event{transaction: &transaction{xid: 7}}
		go func() {
			for _, e := range []event{part(), last} {
				time.Sleep(4*partPause + time.Second)
				assert.NoError(t, h.backlog.put(t.Context(), e, nil))
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
