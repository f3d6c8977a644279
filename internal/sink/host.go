package sink

import (
	"context"

	"github.com/google/uuid"

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

// Observer learns how far the sequence of alerts has got.
type Observer interface {
	// AlertsSeen gets the seq of an alert before a sink is sent it, and its epoch.
	AlertsSeen(epoch uuid.UUID, seq int64)
}

// Term is a time in which this worker leads.
type Term interface {
	// Confirm fails when another worker may lead by now.
	Confirm(ctx context.Context, db store.DBTX) error
}
