// Package reconcile ends a drift as an operator decides: by writing the
// environment's fields to the database, or by accepting the database's.
package reconcile

import (
	"github.com/google/uuid"

	"provwatch/internal/drift"
)

// Outcome is what a resolution did.
type Outcome struct {
	Provider   string     `json:"provider"`
	ProviderID uuid.UUID  `json:"provider_id"`
	Kind       drift.Kind `json:"kind"` // of the drift that was found; with in_sync nothing was written
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
	// AlreadyAccepted reports that the drift was accepted before, as it is now:
	// nothing was written.
	AlreadyAccepted bool `json:"already_accepted"`
}

// Written reports whether anything was written, and so an audit entry staged.
func (o Outcome) Written() bool {
	return !o.AlreadyAccepted && (o.Kind != drift.InSync || o.KeysReplaced)
}
