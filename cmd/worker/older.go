package main

import (
	"context"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/provider"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
	"provwatch/internal/store"
)

// warnOfOlder logs that the environment of a command is older than that of a worker which is
// there: what differs can be what the newer one has changed. No command is held back by it
// (docs/specification.md, section 4). A role that cannot read the environments of workers, or a
// database without them, gives no warning.
func warnOfOlder(ctx context.Context, pool *pgxpool.Pool, environment []provider.Desired, logger *slog.Logger) {
	limited, cancel := context.WithTimeout(ctx, olderTimeout)
	defer cancel()
	older, err := olderOf(limited, pool, environment)
	switch {
	case schema.IsDenied(err), schema.IsMissing(err), ctx.Err() != nil:
	case err != nil:
		logger.WarnContext(ctx, "could not determine whether a worker has a newer environment", "error", err)
	case older != nil:
		logger.WarnContext(ctx, "the environment is older than that of another worker: a difference can be what the newer one has changed",
			append(older.Attributes(), "remedy", "run the command with the newer environment, or end the workers with it first")...)
	}
}

// olderOf returns the error of an environment that is older than a worker's, nil for another. It
// writes nothing.
func olderOf(ctx context.Context, pool *pgxpool.Pool, environment []provider.Desired) (*rollout.OlderError, error) {
	supported, _, err := seed.Supported(ctx, pool, environment)
	if err != nil {
		return nil, err
	}
	hasher, err := store.On(pool).Hasher(ctx)
	if err != nil {
		return nil, err
	}
	member := rollout.NewMember(uuid.New(), rollout.Window, rollout.Observes)
	if err := member.See(ctx, pool, hasher, supported); err != nil {
		return nil, err
	}
	return member.Older(), nil
}
