package seed

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

// Observe returns the plan of a [Seed] for a worker that observes, and carries nothing of it
// out: it writes nothing to the provider tables and stages no audit entry. What is missing or
// differs is for the first verification to alert.
//
// Where the environment of [As] is older than that of another worker, it records nothing, and
// returns the plan with a [*rollout.OlderError].
//
// Like a seed it records the soft-deleted providers, which are the starting state, and it
// takes the locks of a seed: a seed that runs is part of what it finds.
func Observe(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, logger *slog.Logger, options ...Option) (drift.Plan, error) {
	return persist(ctx, pool, logger, func() (drift.Plan, error) {
		return observeOnce(ctx, pool, desired, optionsOf(options))
	})
}

func observeOnce(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, o options) (plan drift.Plan, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := lock(ctx, tx); err != nil {
			return err
		}
		stored, err := store.On(tx).LoadStored(ctx, provider.Names(desired), o.keys, o.credentials.Compares())
		if err != nil {
			return err
		}
		plan = drift.MakePlan(desired, stored, o.credentials)
		if err := o.takeGeneration(ctx, tx, stored.Hasher, plan.Supported()); err != nil {
			return err
		}
		return recordFirstSeen(ctx, tx, plan)
	})
	if err != nil {
		return plan, fmt.Errorf("compare providers: %w", postgres.WithoutValues(err))
	}
	return plan, nil
}

// LogObserved logs what [Observe] has found, a line for each provider that is not as the
// environment asks for, and one for the whole.
func LogObserved(ctx context.Context, logger *slog.Logger, p drift.Plan) {
	if len(p.Steps) == 0 {
		WarnOfNoProviders(ctx, logger, 0)
		return
	}
	for _, s := range p.Steps {
		if s.Action != drift.ActionInsert {
			logStep(ctx, logger, s)
			continue
		}
		logger.WarnContext(ctx, "provider is missing in the database", "provider", s.Desired.Name,
			"remedy", remedy.Advice{remedy.Run("seed"), ", or ", resolveBy(s, "env")})
	}
	logger.InfoContext(ctx, "observing: nothing is seeded", append([]any{"missing", p.Count(drift.ActionInsert)}, counts(p)...)...)
}
