package verify

import (
	"github.com/google/uuid"

	"provwatch/internal/drift"
)

// formerlyNamed are rows that the environment has named, by what this process knows. Nothing that is
// recorded shows it.
type formerlyNamed struct {
	names map[string]bool
	ids   map[uuid.UUID]string
}

// formerlyNamed returns the rows that count as named before by the environment.
func (v *Verifier) formerlyNamed(e *environment) formerlyNamed {
	return formerlyNamed{v.dropped(e), v.conditions.rowsOfIncomparable()}
}

// has reports whether the row of an observation is among them.
func (f formerlyNamed) has(o drift.Observation) bool {
	_, is := f.ids[o.ProviderID]
	return is || f.names[o.Provider]
}
