// Package drift decides how a provider's row differs from what the environment asks
// for, and what of that is news. The seed, the verifications, the WAL source, the status
// and every command ask it, so that all of them give the same answer for the same pair.
//
// [Compare] turns a pair into an [Observation]. [Recorded.Judge] compares an observation
// with what is recorded of the provider, and returns what to alert and what to record.
//
// The package is pure: it has no database, no clock and no logger.
package drift

// Kind says how the database differs from the environment.
type Kind string

// The kinds of drift (docs/specification.md, section 6), strongest first: a provider
// that is both disabled and changed is reported as disabled, with all differing fields.
const (
	InSync   Kind = "in_sync"
	Missing  Kind = "missing"  // no row of this name
	Deleted  Kind = "deleted"  // soft-deleted
	Disabled Kind = "disabled" // live, but not enabled
	Changed  Kind = "changed"  // live and enabled, with another canonical hash or other credentials
	// Unmanaged is the kind of an enabled, live row that the environment does not name.
	Unmanaged Kind = "unmanaged"
	// Known is recorded of an unmanaged row that was there when a worker first looked for
	// them, or that the environment named before. It is no drift, and an observation never
	// has it.
	Known Kind = "known"
	// NotComparable is the kind of a live row that cannot be compared. It is no drift,
	// and never taken for in sync.
	NotComparable Kind = "not_comparable"
	// Resolved is the kind of the alert that ends a drift; an observation never
	// has it.
	Resolved Kind = "resolved"
	// Gap and Rewound are kinds of alerts that are about no provider. After a gap changes
	// may have passed unseen. A rewind set the sequence of alerts back, or may have, as by
	// a restore.
	Gap     Kind = "gap"
	Rewound Kind = "rewound"
)

// Count returns how many providers drift, by kind.
func Count(drifting map[string]Kind) map[Kind]int {
	byKind := map[Kind]int{}
	for _, kind := range drifting {
		byKind[kind]++
	}
	return byKind
}

// HasProvider reports whether an alert of the kind is about a provider.
func (k Kind) HasProvider() bool { return k != Gap && k != Rewound }
