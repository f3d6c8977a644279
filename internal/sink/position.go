package sink

import "github.com/google/uuid"

// position is a position in a stream: that of an event, or after all events of a seq. A
// seq alone does not identify an event, because other programs can insert rows into the
// audit log that have the seq of an entry.
type position struct {
	seq int64
	id  uuid.UUID
}

func after(seq int64) position { return position{seq, uuid.Max} }
