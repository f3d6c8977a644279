package reconcile

import (
	"context"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/drift"
	"provwatch/internal/store"
)

// setBase records what both sides of the step's provider agree on from now on. The transaction
// has locked its row, or inserts it.
func setBase(ctx context.Context, tx pgx.Tx, step drift.Step, base drift.Base, applied bool) error {
	return store.On(tx).ReplaceBase(ctx, store.NamedBase{Provider: step.Desired.Name, Base: base, Applied: applied})
}
