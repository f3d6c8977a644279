// Package wal reads provider changes from the write-ahead log through a replication slot.
// It is the second source of changes: none is lost while no worker listens, and writers
// pay nothing for it.
//
//	server ──▶ stream ──▶ backlog ──▶ handler ──▶ applier ──▶ recorder ──▶ database
//	  ▲ ▲        │                       │                       ▲
//	  │ └────────┘ confirmed             └──▶ checker ───────────┘
//	  └─ monitor                                (reads the tables, writes a marker)
//
// A [Reader] makes one attempt after the other. Each attempt finds or creates the slot, and
// starts three goroutines. The stream receives and decodes messages, and confirms what is
// stored. The handler owns the mirror, the position, the applier and the checker. The
// monitor measures the slot. What they share is [backlog] and [marks].
//
// A transaction of the stream goes one way: the applier changes the mirror, compares the
// providers that the transaction touches, and the recorder writes alerts, mirror and
// position in one transaction. The checker verifies what is asked for beside the stream.
package wal
