package verify

import (
	"github.com/google/uuid"

	"provwatch/internal/drift"
)

// formerlyNamed are rows that the environment has named, by what this process knows. Nothing that is
// recorded shows it.
type formerlyNamed struct {
	names map[string]bool
	// isFormer is set of names that were dropped in another term. Where a row's drift is pending,
	// the leader of then has seen it since.
	isFormer bool
	ids      map[uuid.UUID]string
}

// formerlyNamed returns the rows that count as named before by the environment.
func (v *Verifier) formerlyNamed(e *environment) formerlyNamed {
	return formerlyNamed{v.dropped(e), e.term != v.sequence.currentTerm(), v.conditions.rowsOfIncomparable()}
}

// has reports whether the row of an observation, of which this is recorded, is among them.
func (f formerlyNamed) has(o drift.Observation, recorded drift.RecordedRow) bool {
	_, is := f.ids[o.ProviderID]
	return is || f.names[o.Provider] && (recorded.Pending == nil || !f.isFormer)
}
