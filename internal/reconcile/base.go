package reconcile

import (
	"context"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/drift"
	"provwatch/internal/store"
)

// setBase records what both sides of the step's provider agree on from now on.
func setBase(ctx context.Context, tx pgx.Tx, step drift.Step, base drift.Base, applied bool) error {
	base.SetAt = step.BaseSetAt()
	return store.On(tx).SetBases(ctx, []store.NamedBase{{Provider: step.Desired.Name, Base: base, Applied: applied}})
}
