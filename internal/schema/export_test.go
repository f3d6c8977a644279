package schema

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// MigrateWithin is [Migrate] with other limits for locks.
func MigrateWithin(ctx context.Context, config *pgx.ConnConfig, needs Needs, attempt, total time.Duration) error {
	_, _, err := migrateWithin(ctx, config, needs, lockLimits{attempt: attempt, total: total})
	return err
}
