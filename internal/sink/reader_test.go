//go:build e2e

package sink

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
)

// TestReaderOrder reads the audit log by seq while many sessions write to it: what the
// cursor has passed must be all events that there ever are.
func TestReaderOrder(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	const writers, rounds = 6, 8
	written := f.writeAudit(writers, rounds)
	r := reader{pool: f.pool, stream: Audit}
	var seen []int64
	var from position
	for ended := false; ; {
		select {
		case <-written:
			ended = true
		default:
		}
		last, err := r.end(t.Context())
		require.NoError(t, err)
		events, err := r.list(t.Context(), from, last, 7)
		require.NoError(t, err)
		for _, e := range events {
			from = position{e.Seq, e.ID}
			seen = append(seen, e.Seq)
		}
		if ended && len(events) == 0 {
			break
		}
	}
	for i, seq := range seen {
		require.EqualValues(t, i+1, seq, "no seq is left out")
	}
	require.Len(t, seen, writers*rounds*2)
}

// writeAudit stages two entries in each round of each writer, while two workers deliver.
// The channel is closed after the last delivery.
func (f *feed) writeAudit(writers, rounds int) <-chan struct{} {
	var writing, delivering sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			for range rounds {
				if err := f.stage(fmt.Sprint("p", i), fmt.Sprint("q", i)); err != nil {
					f.t.Error(err)
				}
			}
		})
	}
	staged, written := make(chan struct{}), make(chan struct{})
	for range 2 {
		delivering.Go(func() { f.deliverUntil(staged) })
	}
	go func() {
		writing.Wait()
		close(staged)
		delivering.Wait()
		close(written)
	}()
	return written
}

// deliverUntil delivers audit entries until staged is closed, and then once more.
func (f *feed) deliverUntil(staged <-chan struct{}) {
	for last := false; ; {
		if err := audit.NewDeliverer(f.pool, quiet, nil).Deliver(context.Background()); err != nil {
			f.t.Error(err)
		}
		if last {
			return
		}
		select {
		case <-staged:
			last = true
		default:
		}
	}
}
