package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pglogrepl"

	"provwatch/internal/store"
)

// A standby that synchronises the slot takes over what the worker has confirmed, and can
// have that before it has the transaction in which the worker recorded it. A standby
// promoted then would have a slot ahead of the stored position, and nothing would show
// what lies between. So a position is confirmed once the stream itself has passed the
// transaction that recorded it: the server sends nothing that the standbys named in
// synchronized_standby_slots do not have.

// owed is a position that may be confirmed once the stream has passed recorded.
type owed struct{ position, recorded pglogrepl.LSN }

// confirmations decides what the server may forget.
type confirmations struct {
	// waiting are the positions that may not be confirmed yet: the first of them and the
	// last, so that records in a row keep none from being confirmed.
	waiting []owed
}

// record adds a position, recorded by transactions before the other one.
func (c *confirmations) record(position, recorded pglogrepl.LSN) {
	c.waiting = append(c.waiting[:min(len(c.waiting), 1)], owed{position, recorded})
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

// confirmRecorded lets the server forget what is before the stored position: at once, or
// where the server has slots that standbys synchronise once the stream has passed the
// record.
func (s *session) confirmRecorded(ctx context.Context) error {
	if s.owed == s.stored {
		return nil
	}
	if s.server.Version < versionFailover {
		s.owed = s.stored
		s.confirmed.Store(uint64(s.stored))
		return nil
	}
	text, err := store.On(s.Pool).ReadWALEnd(ctx)
	if err != nil {
		return fmt.Errorf("ask how far the WAL goes: %w", err)
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return fmt.Errorf("ask how far the WAL goes: %w", err)
	}
	s.owed = s.stored
	s.confirmations.record(s.stored, end)
	return nil
}

// confirmBegun confirms what a session begins with: what the slot, nil for a new one, says
// that was confirmed before, and the stored position, which may have been recorded a moment
// ago.
func (s *session) confirmBegun(ctx context.Context, slot *store.InspectSlotRow) error {
	before := s.applied
	if slot != nil {
		var err error
		if before, err = pglogrepl.ParseLSN(slot.ConfirmedFlushLsn); err != nil {
			return fmt.Errorf("read the position of replication slot %s: %w", s.server.Slot, err)
		}
	}
	s.confirmed.Store(uint64(before))
	return s.confirmRecorded(ctx)
}

// confirmPassed lets the server forget what it may when everything up to a position of
// the stream is handled.
func (s *session) confirmPassed(position pglogrepl.LSN) {
	if confirm, ok := s.confirmations.passed(position); ok {
		s.confirmed.Store(uint64(confirm))
	}
}
