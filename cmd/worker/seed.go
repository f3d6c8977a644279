package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
	"provwatch/internal/status"
	"provwatch/internal/store"
)

func seedCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "seed",
		Short: "Seed once and exit, or with --dry-run print what a seed would do",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			environment, keys, pool, config, err := f.openWithEnvironment(ctx, logger)
			if err != nil {
				return err
			}
			defer pool.Close()
			if f.dryRun {
				return f.foretellSeed(ctx, pool, environment.Providers, keys, logger)
			}
			defer warnOfWaits(ctx, pool, logger)()
			var plan drift.Plan
			var older *rollout.OlderError
			connector := postgres.Connector{Config: config, Timeout: f.connectTimeout, Logger: logger}
			err = connector.Persist(ctx, func() (err error) {
				plan, err = f.seed(ctx, pool, environment.Providers, keys, logger)
				return err
			})
			if errors.As(err, &older) {
				return f.printer().Older(plan, older)
			}
			if err != nil {
				return err
			}
			deliver(ctx, pool, logger)
			warnOfServed(ctx, pool, keys, logger)
			seed.LogUnheard(ctx, logger, plan)
			seed.WarnOfNoProviders(ctx, logger, len(plan.Steps))
			return f.printer().Plan(plan, true)
		},
	}
}

// seed prepares the schema for the source of a worker with these flags, and seeds.
func (f *flags) seed(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, keys *dbcrypt.Ring, logger *slog.Logger) (drift.Plan, error) {
	needs, err := f.source.Needs(ctx, pool)
	if err != nil {
		return drift.Plan{}, err
	}
	needs.Use = f.comparing(schema.Seeding)
	if err := schema.Ensure(ctx, pool, f.migrateMode(), needs, logger); err != nil {
		return drift.Plan{}, err
	}
	if f.migrateMode() == schema.Auto {
		if _, err := store.On(pool).RegisterKey(ctx, keys); err != nil {
			return drift.Plan{}, err
		}
	}
	member := rollout.NewMember(uuid.New(), f.rollbackAfter, rollout.Seeds)
	return seed.Seed(ctx, pool, desired, false, logger, append(f.seedOptions(keys), seed.As(member))...)
}

// foretellSeed prints the plan of a seed. It fails if the seed would fail.
func (f *flags) foretellSeed(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, keys *dbcrypt.Ring, logger *slog.Logger) error {
	var plan drift.Plan
	err := reading(ctx, pool, func(ctx context.Context) (err error) {
		plan, err = seed.DryRun(ctx, pool, desired, f.seedOptions(keys)...)
		return schema.Explain(ctx, pool, f.comparing(schema.Verifying), err)
	})
	if err != nil {
		return err
	}
	seed.WarnOfNoProviders(ctx, logger, len(plan.Steps))
	if err := f.printer().Plan(plan, false); err != nil {
		return err
	}
	if err := seed.Refusal(ctx, pool, plan, keys, f.migrateMode() == schema.Auto); err != nil {
		return fmt.Errorf("a seed would fail: %w", err)
	}
	return planError(plan)
}

// seedOptions are how a seed, or whatever foretells one, is done.
func (f *flags) seedOptions(keys *dbcrypt.Ring) []seed.Option {
	options := []seed.Option{seed.WithKeys(keys)}
	if f.requiresCredentials() {
		options = append(options, seed.RequireCredentials())
	}
	if f.announceSeed {
		options = append(options, seed.Announce())
	}
	return options
}

// comparing adds to a use what comparing credentials needs, if they are.
func (f *flags) comparing(use schema.Use) schema.Use {
	if f.requiresCredentials() {
		use |= schema.Credentials
	}
	return use
}

// planError turns a plan that holds a drift, which has been printed, into an
// exit code.
func planError(plan drift.Plan) error {
	var drifted *seed.DriftError
	if err := seed.DriftOf(plan); errors.As(err, &drifted) {
		if drifted.Comparable() {
			return errDrift
		}
		return errNotComparable
	}
	return nil
}

// errNoProviders is the error of a command that has nothing to compare, as where the prefix of
// the variables is misspelt.
var errNoProviders = remedy.Problem("the environment names no provider: ", remedy.NameProviders())

// errNotComparable says that a provider, which has been printed, cannot be compared.
var errNotComparable = errors.New("a provider's row cannot be compared with the environment")

// deliver delivers the audit entries that a seed has staged.
func deliver(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) {
	if err := audit.NewDeliverer(pool, logger, nil).Deliver(ctx); err != nil {
		logger.WarnContext(ctx, "audit entries stay in the outbox until a worker runs", "error", err)
	}
}

// warnOfServed warns of providers that the gateway does not serve as their rows
// suggest. The seed is done: that this cannot be known is no failure of it.
func warnOfServed(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, logger *slog.Logger) {
	notices, err := status.NoticeUnserved(ctx, pool, keys)
	if err != nil {
		logger.WarnContext(ctx, "could not determine what the gateway serves", "error", err)
	}
	status.LogNotices(ctx, logger, notices)
}
