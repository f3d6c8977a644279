package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/store"
)

// A standby that synchronises the slot takes over what the worker has confirmed, and can
// have that before it has the transaction in which the worker recorded it. A standby
// promoted then would have a slot ahead of the stored position, and nothing would show
// what lies between. So a position is confirmed once the stream itself has passed the
// transaction that recorded it: the server sends nothing that the standbys named in
// synchronized_standby_slots do not have.

// deferredConfirmation is a position that may be confirmed once the stream has passed recorded.
type deferredConfirmation struct{ position, recorded pglogrepl.LSN }

// confirmations decides what the server may forget.
type confirmations struct {
	// waiting are the positions that may not be confirmed yet: the first of them and the
	// last, so that records in a row keep none from being confirmed.
	waiting []deferredConfirmation
}

// record adds a position, recorded by transactions before the other one.
func (c *confirmations) record(position, recorded pglogrepl.LSN) {
	c.waiting = append(c.waiting[:min(len(c.waiting), 1)], deferredConfirmation{position, recorded})
}

// passed returns up to where the server may forget once the stream has passed a position;
// ok is false where that is no news.
func (c *confirmations) passed(position pglogrepl.LSN) (confirm pglogrepl.LSN, ok bool) {
	for len(c.waiting) > 0 && c.waiting[0].recorded <= position {
		confirm, ok = c.waiting[0].position, true
		c.waiting = c.waiting[1:]
	}
	return confirm, ok
}

// confirmer confirms what is stored. The reader's goroutine makes it; from the start of the
// stream on the handler's alone touches it.
type confirmer struct {
	pool          *pgxpool.Pool
	failover      bool // the server has slots that standbys synchronise
	confirmations confirmations
	stored        pglogrepl.LSN // the last stored position, which is confirmed or will be
	marks         *marks        // shared with the stream and the monitor
}

// begin begins with what the slot had confirmed before, and the stored position, which may
// have been recorded a moment ago.
func (c *confirmer) begin(ctx context.Context, before, stored pglogrepl.LSN) error {
	c.marks.confirmed.store(before)
	return c.recorded(ctx, stored)
}

// recorded lets the server forget what is before the stored position: at once, or, where
// standbys synchronise slots, once the stream has passed the record.
func (c *confirmer) recorded(ctx context.Context, stored pglogrepl.LSN) error {
	if c.stored == stored {
		return nil
	}
	if !c.failover {
		c.stored = stored
		c.marks.confirmed.store(stored)
		return nil
	}
	text, err := store.On(c.pool).ReadWALEnd(ctx)
	if err != nil {
		return fmt.Errorf("ask how far the WAL goes: %w", err)
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return fmt.Errorf("ask how far the WAL goes: %w", err)
	}
	c.stored = stored
	c.confirmations.record(stored, end)
	return nil
}

// passed lets the server forget what it may when everything up to a position of the stream
// is handled.
func (c *confirmer) passed(position pglogrepl.LSN) {
	if confirm, ok := c.confirmations.passed(position); ok {
		c.marks.confirmed.store(confirm)
	}
}
