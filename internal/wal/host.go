package wal

import (
	"context"

	"provwatch/internal/verify"
)

// SlotStatus is the state of the slot.
type SlotStatus struct {
	RetainedBytes int64
	WALStatus     string // as in pg_replication_slots
}

// Metrics receives what a [Reader] measures. Its methods may be called by several
// goroutines.
type Metrics interface {
	SlotObserved(SlotStatus)
	TransactionsHandled(n int)
}

// Host is the worker that a [Reader] reads for.
type Host interface {
	// Publish ensures the publication.
	Publish(ctx context.Context) error
	// Streaming is called on a goroutine of its own each time that the stream has begun,
	// with a context that ends with it.
	Streaming(ctx context.Context)
	// Verified gets the result of each verification. It is not called by two goroutines at
	// a time.
	Verified(request verify.Request, err error)
}
