package verify

import (
	"time"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
)

// Scope is how much a verification covers.
type Scope string

// The scopes of a verification.
const (
	Full   Scope = "full"
	Hinted Scope = "hinted"
)

// Metrics receives what a [Verifier] measures.
type Metrics interface {
	Verified(scope Scope, took time.Duration, err error)
	AlertPublished(kind drift.Kind, source pubsub.Source)
	// GapObserved gets when there was the latest gap, or the latest rewind that is
	// certain; zero for never.
	GapObserved(kind drift.Kind, at time.Time)
	// DriftsObserved gets the providers that drift, by name, each with the kind. The map is not
	// changed any more. Unmanaged rows that drift are among them.
	DriftsObserved(drifting map[string]drift.Kind)
	// PendingObserved gets the providers whose drift is pending, by name, each with the kind. The
	// map is not changed later.
	PendingObserved(pending map[string]drift.Kind)
	// DriftPassed counts a drift that has ended before it was alerted.
	DriftPassed()
	// SilencedObserved gets the providers that drift and whose alerts are silenced now. The map
	// is not changed later.
	SilencedObserved(silenced map[string]bool)
	// NotComparableObserved gets the providers that cannot be compared, by name, each with
	// the reason. The map is not changed later.
	NotComparableObserved(reasons map[string]string)
	// UnmanagedObserved gets how many enabled, live rows the environment does not name, whether
	// they drift or not. It is 0 where they are ignored.
	UnmanagedObserved(rows int)
}
