package wal

import (
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
