package verify

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
)

// sequence is where this worker numbers alerts: its term, the epoch, and how far the
// sequence had got when this process last saw it, in whatever term and role.
//
// [Verifier.TakeOver] writes the term and the epoch. Verifications read both. The listener
// adds what it sees of the alerts of others, in any order. All of it is under mu.
type sequence struct {
	mu    sync.Mutex
	term  int64
	epoch uuid.UUID           // [uuid.Nil] while it is not known
	seen  map[uuid.UUID]int64 // the last seq seen, by epoch
}

// position is where the sequence of alerts stands.
type position struct {
	generation, lastSeq int64
	epoch               uuid.UUID
}

// next returns the seq after as many more alerts.
func (p position) next(more int) int64 { return p.lastSeq + int64(more) + 1 }

// begin begins a term.
func (s *sequence) begin(term int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term = term
}

func (s *sequence) currentTerm() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term
}

func (s *sequence) currentEpoch() uuid.UUID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// goOn makes the epoch that of the database.
func (s *sequence) goOn(epoch uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = epoch
}

// see adds an end of the sequence that was seen.
func (s *sequence) see(epoch uuid.UUID, seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[uuid.UUID]int64{}
	}
	s.seen[epoch] = max(s.seen[epoch], seq)
}

// rewound records the epoch that this worker, as the leader, has begun. Of all
// others the database is known to lack something.
func (s *sequence) rewound(epoch uuid.UUID, seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.seen = epoch, map[uuid.UUID]int64{epoch: seq}
}

// whyBefore returns why an end of the sequence, in an epoch that came after the former
// ones, is before what was seen; empty where it is not.
func (s *sequence) whyBefore(epoch uuid.UUID, former []uuid.UUID, seq int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen := s.seen[epoch]; seq < seen {
		return fmt.Sprintf("the last alert has the seq %d, and %d was seen before", seq, seen)
	}
	for e, seen := range s.seen {
		// An epoch that began later says by its alert that something may be lost.
		if e != epoch && !slices.Contains(former, e) && begun(epoch) <= begun(e) {
			return fmt.Sprintf("alerts up to seq %d were seen in a later epoch", seen)
		}
	}
	return ""
}

// begun returns when an epoch began, in milliseconds since 1970 by the clock of the worker
// that began it; 0 for the first one of a database.
func begun(epoch uuid.UUID) int64 {
	if epoch.Version() != 7 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(epoch[:8]) >> 16)
}
