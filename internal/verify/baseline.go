package verify

import (
	"sync"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// baseline is what is known to be recorded, so that a scan need not read it again. It
// holds as long as nothing else is recorded, which the generation shows.
//
// Verifications, and what announces their records, read and write it from any goroutine,
// under mu. A reload does not touch it: what is known of another environment is not used.
type baseline struct {
	mu sync.Mutex
	// The baseline belongs to this environment, nil where nothing is known, and to the
	// hashes of this hasher.
	environment *environment
	hasher      provider.Hasher
	last        lastRecorded
	// closed is the environment for which the drifts of unnamed providers were ended,
	// nil for none since the last takeover.
	closed *environment
}

// forget makes nothing known.
func (b *baseline) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.environment, b.closed = nil, nil
}

// suspects returns what a scan has not shown exactly as it is recorded. It reports false
// where the baseline does not belong to the scan.
func (b *baseline) suspects(s *scan, h provider.Hasher) (found suspects, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.environment != s.environment || b.hasher != h || b.last.generation != s.generation || (b.last.rows == nil) != (s.unmanaged == nil) {
		return suspects{}, false
	}
	return s.suspects(b.last), true
}

// replace replaces what is known.
func (b *baseline) replace(e *environment, h provider.Hasher, last lastRecorded) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.environment, b.hasher, b.last = e, h, last
}

// add adds what was recorded in a generation, which follows the one before.
func (b *baseline) add(r Recorded) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.environment != r.environment || r.generation != b.last.generation+1 {
		b.environment = nil // another worker has recorded as well, or the environment is another
		return
	}
	b.last.generation = r.generation
	for _, j := range r.judgements {
		if j.Observation.OfRow {
			b.addRow(j.Judgement)
			continue
		}
		i, named := b.environment.index[j.Observation.Provider]
		if !named || !j.NewState && !j.NewReason && !j.NewPending && !j.EndsPending && j.NewBase == nil {
			continue
		}
		b.last.inSync[i] = uuid.Nil
		if j.IsSettled() {
			b.last.inSync[i] = j.Observation.ProviderID
		}
	}
	for id := range r.namedBefore {
		if _, is := b.last.rows[id]; !is && b.last.rows != nil {
			b.last.rows[id] = drift.Known
		}
	}
}

func (b *baseline) addRow(j drift.Judgement) {
	switch id := j.Observation.ProviderID; {
	case b.last.rows == nil || !j.NewState && !j.NewPending && !j.EndsPending && j.Withdrawn == nil:
	case j.Kind == "" && j.Pending == nil:
		delete(b.last.rows, id)
	default:
		b.last.rows[id] = j.Kind
	}
}

// isClosed reports whether the drifts of providers that the environment does not name
// were ended.
func (b *baseline) isClosed(e *environment) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed == e
}

// close records that they were.
func (b *baseline) close(e *environment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = e
}
