package wal

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
)

const (
	// statusInterval is how often the server gets what is confirmed, at least. It ends a
	// stream that says nothing for wal_sender_timeout, 60 s by default.
	statusInterval = time.Second
	// buffered is how many events wait for being recorded.
	buffered = 5000
	// maxBacklog is from which size of the changes of these on the stream is not read
	// further, in bytes.
	maxBacklog = 2 << 20
)

// event is what the stream hands on: a transaction, a part of one, or that the
// stream has passed a position.
type event struct {
	transaction *transaction
	passed      pglogrepl.LSN
}

// isNews reports whether the event is a transaction of the provider tables, or one
// that a verification waits for.
func (e event) isNews() bool {
	return e.transaction != nil && (len(e.transaction.changes) > 0 || e.transaction.keysTouched || len(e.transaction.markers) > 0)
}

// isPart reports whether the event is a part of a transaction of which more follows.
func (e event) isPart() bool { return e.transaction != nil && e.transaction.more }

// size returns what the event takes in memory, in bytes.
func (e event) size() int64 {
	if e.transaction == nil {
		return 0
	}
	return int64(e.transaction.size())
}

// backlog holds what was received and is not recorded yet. The goroutine of a stream
// puts events into it and waits while it is full. The goroutine of the handler takes them,
// and reports when they are done. All of its fields are safe for concurrent use.
type backlog struct {
	events chan event
	size   atomic.Int64  // of the events that are not done, in bytes
	room   chan struct{} // has a token when some were done since the stream looked
}

func newBacklog() *backlog {
	return &backlog{events: make(chan event, buffered), room: make(chan struct{}, 1)}
}

// put adds an event. It reports false when there was no room for it within
// [statusInterval] from its call. The error is that of ctx.
func (b *backlog) put(ctx context.Context, e event) (added bool, err error) {
	size := e.size()
	var timeout <-chan time.Time
	for {
		events := b.events
		if b.size.Load() >= maxBacklog {
			events = nil
		}
		// A timer for each event would cost as much as decoding it.
		select {
		case events <- e:
			b.size.Add(size)
			return true, nil
		default:
		}
		if timeout == nil {
			timeout = time.After(statusInterval)
		}
		select {
		case events <- e:
			b.size.Add(size)
			return true, nil
		case <-b.room:
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timeout:
			return false, nil
		}
	}
}

// done makes room: the events that it is given need no memory any more.
func (b *backlog) done(events ...event) {
	size := int64(0)
	for _, e := range events {
		size += e.size()
	}
	b.size.Add(-size)
	select {
	case b.room <- struct{}{}:
	default:
	}
}
