package reconcile

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
)

// change is what a resolution does about one provider, once it is planned. At most one of
// accepts, inserts and writes is set.
type change struct {
	step    drift.Step
	outcome Outcome

	withdraws bool              // an acceptance, if there is one
	accepts   *drift.Acceptance // is recorded
	inserts   bool              // the row of the step's provider
	writes    *write            // to the row
}

// encryption decrypts stored secrets and encrypts the new ones.
type encryption struct {
	keys   *dbcrypt.Ring
	sealer dbcrypt.Sealer
}

// operation is the transaction of a resolution: who asked for it, why, and when it has the
// locks that it needs.
type operation struct {
	actor, reason string
	at            time.Time
}

// stage stages audit entries with the reason.
func (op operation) stage(ctx context.Context, tx pgx.Tx, entries []audit.Entry) error {
	for i := range entries {
		entries[i].Details.Reason = op.reason
	}
	return audit.Stage(ctx, tx, entries)
}
