package sink

import (
	"context"

	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// Metrics receives what a [Runner] measures.
type Metrics interface {
	SinkConfigured(sink, stream string)
	SinkDelivered(sink, stream string)
	SinkFailed(sink, stream string)
	SinkDeadLetter(sink, stream string)
	SinkGap(sink, stream string)
	SinkLag(sink, stream string, events int64)
	// SinkStored reports a change of what [Inspect] returns.
	SinkStored(sink, stream string)
}

// Publisher publishes the events of this worker.
type Publisher interface {
	// PublishIn publishes an event when the transaction db commits.
	PublishIn(ctx context.Context, db store.DBTX, event pubsub.Event, reason string) error
}

// Term is a time in which this worker leads.
type Term interface {
	// Confirm fails when another worker may lead by now.
	Confirm(ctx context.Context, db store.DBTX) error
}
