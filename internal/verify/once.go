package verify

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/seed"
)

// Once compares the desired providers with the database once, and records nothing. Its
// observations are the ones a running worker judges with the mode, and logs with
// [drift.WarnCredentials].
//
// It reads as a seed does: its caller may read the provider tables and what was accepted,
// and nothing else, and the database need not have been migrated.
func Once(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, mode drift.CredentialMode, logger *slog.Logger, options ...seed.Option) (seed.Plan, error) {
	plan, err := seed.DryRun(ctx, pool, desired, mode.Compares(), options...)
	if err != nil {
		return seed.Plan{}, err
	}
	conditions := newConditions(logger)
	for i := range plan.Steps {
		o := &plan.Steps[i].Observation
		*o = conditions.observed(ctx, *o, mode)
	}
	return plan, nil
}
