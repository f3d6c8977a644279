// Package schema brings the database's schema to what the worker needs, and
// reports whether it is there (docs/specification.md, section 3).
package schema

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/remedy"
)

// Mode says what to do about a schema that is not up to date.
type Mode string

// The modes of --migrate.
const (
	Auto  Mode = "auto"  // bring it up to date
	Check Mode = "check" // fail if it is not up to date
	Off   Mode = "off"   // fail only if it cannot be used at all
)

// Ensure does what mode says, and then makes sure of the role's privileges. The
// schema is looked at through the pool; what is migrated is so by a connection of
// its own, which ends with its locks. The error is an [*UnusableError], or ctx's
// own.
func Ensure(ctx context.Context, pool *pgxpool.Pool, mode Mode, needs Needs, logger *slog.Logger) error {
	if _, err := Locate(ctx, pool); err != nil {
		return err
	}
	found, err := findMissingPrivileges(ctx, pool, needs.Use)
	if err != nil {
		return unusable("use it", err)
	}
	if found.blind {
		return found.err()
	}
	status, err := look(ctx, pool)
	if err != nil {
		return err
	}
	if err := status.writable(); err != nil {
		return err
	}
	if err := status.refuse(needs); err != nil {
		return err
	}
	todo := status.Lacks(needs)
	if mode == Auto && len(todo) > 0 {
		if err := migrateAndLog(ctx, pool.Config().ConnConfig, needs, logger); err != nil {
			return err
		}
		if found, err = findMissingPrivileges(ctx, pool, needs.Use); err != nil {
			return unusable("use it", err)
		}
		return found.err()
	}
	switch {
	case len(todo) == 0:
	case mode == Check:
		return toMigrate("it is not up to date ("+strings.Join(todo, ", ")+")", needs.otherwise())
	case len(status.Pending) > 0:
		return toMigrate(fmt.Sprintf("migrations %v are pending and --migrate=off leaves them so", status.Pending), "")
	case needs.Publication && !status.Publication:
		return toMigrate("the publication of the provider tables is missing and --migrate=off leaves it so", "")
	case needs.Triggers && !status.Triggers:
		logger.WarnContext(ctx, "triggers on the provider tables are missing: changes are seen within 45 s, or when another program "+
			"notifies ai_providers_changed", "remedy", remedy.Advice{`run "`, remedy.Run("migrate"), `"`})
	}
	return found.err()
}

func migrateAndLog(ctx context.Context, config *pgx.ConnConfig, needs Needs, logger *slog.Logger) error {
	before, after, err := Migrate(ctx, config, needs)
	if err != nil {
		return err
	}
	// Nothing, when another worker was faster.
	if done := before.Lacks(needs); len(done) > 0 {
		logger.InfoContext(ctx, "schema migrated", "done", strings.Join(done, ", "), "foreign_provider_tables", after.Foreign)
	}
	return nil
}
