package verify

import (
	"sync"

	"github.com/google/uuid"

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
	generation  int64
	// inSync has for each provider of the environment the id of the row that is recorded
	// as in sync with it, [uuid.Nil] for none.
	inSync []uuid.UUID
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

// suspects returns the providers that a scan has not shown exactly as they are recorded.
// It reports false where the baseline does not belong to the scan.
func (b *baseline) suspects(s *scan, h provider.Hasher) (names []string, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.environment != s.environment || b.hasher != h || b.generation != s.generation {
		return nil, false
	}
	return s.suspects(b.inSync), true
}

// replace replaces what is known.
func (b *baseline) replace(e *environment, h provider.Hasher, generation int64, inSync []uuid.UUID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.environment, b.hasher, b.generation, b.inSync = e, h, generation, inSync
}

// recorded adds what was recorded in a generation, which follows the one before.
func (b *baseline) recorded(r Recorded) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.environment != r.environment || r.generation != b.generation+1 {
		b.environment = nil // another worker has recorded as well, or the environment is another
		return
	}
	b.generation = r.generation
	for _, j := range r.judgements {
		i, named := b.environment.index[j.Observation.Provider]
		if !named || !j.NewState && !j.NewReason && !j.NewPending && !j.EndsPending && j.NewBase == nil {
			continue
		}
		b.inSync[i] = uuid.Nil
		if j.IsSettled() {
			b.inSync[i] = j.Observation.ProviderID
		}
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
