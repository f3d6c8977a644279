package wal

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

const (
	// recordsPerSecond bounds how often a flood of changes is recorded, so that it
	// is in a few large transactions. A change in quieter times is recorded at once.
	recordsPerSecond = 20
	recordBurst      = 50
	// maxBatch is how many transactions are recorded in one, and maxBatchSize from
	// which size of their changes on no more are, in bytes. It is less than
	// [maxBacklog], so that the stream is read while a batch is recorded.
	maxBatch     = 5000
	maxBatchSize = 1 << 20
)

// batcher gathers what is recorded together. Only the handler's goroutine touches it.
type batcher struct {
	events  <-chan event // of the backlog
	limiter *rate.Limiter
}

// gather takes what else is there, and waits for more until the next record is
// due. With hurry, as for a verification, it waits for none, and nothing waits for what
// needs no record: each alert is followed by news of its own transaction, which are none.
// The first part of a large transaction ends a batch.
func (b *batcher) gather(ctx context.Context, first event, hurry bool) []event {
	batch, size := []event{first}, first.size()
	if !first.isNews() || first.isPart() {
		return batch
	}
	var due <-chan time.Time
	if !hurry {
		if wait := b.limiter.Reserve().Delay(); wait > 0 {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			due = timer.C
		}
	}
	for len(batch) < maxBatch && size < maxBatchSize && !batch[len(batch)-1].isPart() {
		e, ok := b.next(ctx, &due)
		if !ok {
			return batch
		}
		batch, size = append(batch, e), size+e.size()
	}
	return batch
}

// next returns the next event, from the backlog or the time until the record is due. It
// reports false when there is none.
func (b *batcher) next(ctx context.Context, due *<-chan time.Time) (event, bool) {
	if *due != nil {
		select {
		case e := <-b.events:
			return e, true
		case <-*due:
			*due = nil
		case <-ctx.Done():
			return event{}, false
		}
	}
	select {
	case e := <-b.events:
		return e, true
	default:
		return event{}, false
	}
}
