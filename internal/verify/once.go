package verify

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// Once compares the desired providers with the database once, and records nothing. Its
// observations are the ones a running worker judges with the mode, and logs with
// [drift.WarnCredentials]. The keys decrypt the rows.
//
// The role needs the privilege to read the provider tables and what was accepted, and no
// other one. The database need not have been migrated.
func Once(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, keys *dbcrypt.Ring, mode drift.CredentialMode, logger *slog.Logger) (drift.Plan, error) {
	stored, err := store.InspectStored(ctx, pool, provider.Names(desired), keys, mode.Compares())
	if err != nil {
		return drift.Plan{}, err
	}
	plan := drift.MakePlan(desired, stored, mode)
	conditions := newConditions(logger)
	for i := range plan.Steps {
		o := &plan.Steps[i].Observation
		*o = conditions.observed(ctx, *o, mode)
	}
	return plan, nil
}

// Unmanaged returns the enabled, live rows that have none of the names given, by name, each
// beside what workers have recorded of it. It records nothing. The keys decrypt the rows.
//
// The role needs the privilege to read the provider table and what is recorded and accepted
// of its rows. The database need not have been migrated: nothing is
// recorded before a worker has watched it.
func Unmanaged(ctx context.Context, pool *pgxpool.Pool, names []string, keys *dbcrypt.Ring) ([]drift.UnmanagedRow, error) {
	return store.InspectUnmanaged(ctx, pool, names, keys)
}
