// Package reconcile ends drifts as an operator decides: by writing the environment's
// fields to the database, or by accepting the database's. [Resolve] plans what to do about
// each provider, which writes nothing, and then does all of it in one transaction.
package reconcile

import (
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
)

// Side is the side that a resolution keeps.
type Side string

// The sides of a drift.
const (
	Environment Side = "env" // write its fields to the database
	Database    Side = "db"  // accept its difference from the environment
)

// Request is what an operator asks for.
//
// With [Environment] a changed row is updated, a disabled one enabled, a soft-deleted one
// restored, and a missing one inserted. Only what differs is written: columns and members
// of the settings that provwatch does not know stay unchanged, and so do the models.
// Credentials are written only WithKeys, since they may have been rotated in the database.
// Key rows that hold a key of the environment stay even then.
//
// With [Database] the acceptance holds while both canonical hashes stay the same; the
// drift then neither fails a boot nor is alerted. Rows that the environment does not name can
// be accepted too, each while its canonical hash stays the same.
type Request struct {
	Side     Side
	WithKeys bool // with [Environment]
	// Credentials is how credentials are compared. Where they are, differing credentials are a
	// drift. With [drift.RequireCredentials] such a drift cannot be accepted: a seed ignores
	// the acceptance.
	Credentials drift.CredentialMode
	// Drifting leaves out the providers that do not drift, or whose drift is accepted. With
	// [Database] it adds the unmanaged rows that were alerted and are not accepted.
	Drifting bool
	// Unmanaged are the names of rows to accept that the environment does not name. Named are
	// the names of all its providers.
	Unmanaged, Named []string
	// DryRun only plans, in a transaction that cannot write.
	DryRun   bool
	Operator Operator
	Reason   string // why the operator asks for it, empty for none
	Expires  End    // of an acceptance, with [Database]
}

// End is when an acceptance ends: at a time, or after a time by the database's clock. The zero
// value is for none.
type End struct {
	At    time.Time
	After time.Duration
}

// of returns the end as a time, the zero one for none. Less than a microsecond, which the
// database does not keep, is cut off.
func (e End) of(now time.Time) time.Time {
	if e.After > 0 {
		return now.Add(e.After).Truncate(time.Microsecond).UTC()
	}
	return e.At.Truncate(time.Microsecond).UTC()
}

// Outcome is what a resolution did about one provider or unmanaged row, or would do in a dry
// run.
type Outcome struct {
	Provider   string     `json:"provider"`
	ProviderID uuid.UUID  `json:"provider_id"` // [uuid.Nil] for a row that a dry run would insert
	Kind       drift.Kind `json:"kind"`        // of the drift that was found; with in_sync nothing was written
	// Fields were written, where the environment's side was taken, or else differ
	// and were accepted.
	Fields []drift.Field `json:"fields"`
	// KeysReplaced reports that stored credentials differed, and now are the
	// environment's.
	KeysReplaced bool `json:"keys_replaced"`
	// KeysAgree reports that they were to be written, and were the environment's
	// already.
	KeysAgree bool `json:"keys_agree"`
	// KeysDiffer reports that they were compared, differ, and were left as they are.
	KeysDiffer bool `json:"keys_differ"`
	// AcceptedUntil is when the acceptance ends, the zero time where it has no end.
	AcceptedUntil time.Time `json:"accepted_until,omitzero"`
	// AlreadyAccepted reports that the drift was accepted before, as it is now:
	// nothing was written.
	AlreadyAccepted bool `json:"already_accepted"`
	// NotComparable is why the provider cannot be compared, and was left out of
	// [Request.Drifting]; empty for a provider that was resolved.
	NotComparable string `json:"not_comparable,omitempty"`
}

// Written reports whether anything was written, and so an audit entry staged; in a dry run,
// whether it would be.
func (o Outcome) Written() bool {
	return o.NotComparable == "" && !o.AlreadyAccepted && (o.Kind != drift.InSync || o.KeysReplaced)
}
