package wal

import (
	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/verify"
)

// observe compares what the mirror holds of a name with the environment. It reports false
// when the environment does not name the provider. It looks the provider up once: a reload
// can replace it at any time, and the mirror completes its row for the provider that the
// row is compared with.
func observe(environment *verify.Verifier, m *mirror, name string) (drift.Observation, bool) {
	desired, named := environment.Named(name)
	if !named {
		return drift.Observation{}, false
	}
	return drift.Compare(m.hasher, desired, m.observed(desired), false), true
}

// observeRow returns what a row of the mirror is by itself: whether it is unmanaged. A
// row that the mirror does not have was removed.
func observeRow(environment *verify.Verifier, m *mirror, id uuid.UUID) drift.Observation {
	row := m.rows[id]
	if row == nil {
		return drift.GoneRow(id)
	}
	o := drift.ObserveRow(m.hasher, row.alone(), environment.Mentions(row.name))
	if !row.baseURLKnown {
		o.PartHash = ""
	}
	return o
}
