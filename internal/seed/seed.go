package seed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/store"
)

// maxTries bounds the attempts of a seed that another writer's commit breaks off.
const maxTries = 5

// Seed inserts the desired providers that the database lacks, in one
// transaction under the advisory locks [store.SeedLock] and [store.GatewaySeedLock], and returns what it did.
//
// When a live row differs from the environment, or cannot be compared, Seed
// writes nothing and returns the plan with a [*DriftError]; with tolerateDrift
// it seeds what is missing all the same and leaves the drift to its caller.
//
// Where the environment of [As] is older than that of another worker, Seed writes nothing and
// returns the plan with a [*rollout.OlderError], whatever differs.
//
// Seeding again is safe after any error, even when the commit's outcome is not
// known: rows that made it are found unchanged.
func Seed(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, tolerateDrift bool, logger *slog.Logger, options ...Option) (drift.Plan, error) {
	return persist(ctx, pool, logger, func() (drift.Plan, error) {
		return seedOnce(ctx, pool, desired, tolerateDrift, options...)
	})
}

// persist seeds again where the commit of another writer breaks a seed off.
func persist(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger, once func() (drift.Plan, error)) (plan drift.Plan, err error) {
	for attempt := range (retry.Policy{Tries: maxTries}).Attempts(ctx) {
		plan, err = once()
		if pubsub.IsQueueFull(err) {
			_, freeing := pubsub.FreeQueue(ctx, pool)
			err = errors.Join(err, freeing)
		} else if !canPass(err) {
			return plan, err
		}
		if wait, again := attempt.Failed(); again && ctx.Err() == nil {
			logger.WarnContext(ctx, "seed broken off, retrying", "error", err, "retry_in", wait)
		}
	}
	return plan, cmp.Or(context.Cause(ctx), err)
}

// canPass reports whether another attempt of a seed that failed can succeed.
func canPass(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains([]string{
		pgerrcode.SerializationFailure,
		pgerrcode.DeadlockDetected,
		pgerrcode.UniqueViolation,     // the gateway can insert a provider without our lock
		pgerrcode.ForeignKeyViolation, // and revoke the key that was active when it was looked for
	}, pg.Code)
}

func seedOnce(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, tolerateDrift bool, options ...Option) (plan drift.Plan, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := lock(ctx, tx); err != nil {
			return err
		}
		o := optionsOf(options)
		sealer, err := store.On(tx).WriteSealer(ctx, o.keys)
		if err != nil {
			return err
		}
		stored, err := store.On(tx).LoadStored(ctx, provider.Names(desired), o.keys, o.credentials.Compares())
		if err != nil {
			return err
		}
		plan = drift.MakePlan(desired, stored, o.credentials)
		if o.apply {
			return applyAtBoot(ctx, tx, &plan, o, sealer, stored.Hasher)
		}
		if err := o.takeGeneration(ctx, tx, stored.Hasher, plan.Supported()); err != nil {
			return err
		}
		if err := DriftOf(plan); err != nil && !tolerateDrift {
			return err
		}
		return write(ctx, tx, &plan, sealer, o.announce)
	})
	var drifted *DriftError
	if err != nil && !errors.As(err, &drifted) {
		return plan, fmt.Errorf("seed providers: %w", postgres.WithoutValues(err))
	}
	return plan, err
}

// lock takes the locks of a seed until the end of the transaction.
func lock(ctx context.Context, tx pgx.Tx) error {
	if err := store.On(tx).BeginSeed(ctx, store.BeginSeedParams{LockID: store.SeedLock, GatewayLockID: store.GatewaySeedLock}); err != nil {
		return fmt.Errorf("take the seed lock: %w", err)
	}
	return nil
}
