package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

func migrateCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to date",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			keys, err := f.readKeys()
			if err != nil {
				return err
			}
			pool, config, err := f.open(ctx, logger)
			if err != nil {
				return err
			}
			defer pool.Close()
			if f.dryRun {
				return reading(ctx, pool, func(ctx context.Context) error { return f.showSchema(ctx, pool, config, keys) })
			}
			defer warnOfWaits(ctx, pool, logger)()
			needs, err := f.source.Prepares(ctx, pool)
			if err != nil {
				return err
			}
			before, after, err := schema.Migrate(ctx, config.ConnConfig, needs)
			if err != nil {
				return err
			}
			key, insertable, err := store.On(pool).UnregisteredKey(ctx, keys)
			if err != nil {
				return err
			}
			if key != "" && !insertable {
				return &schema.UnusableError{
					Err: remedy.Problem("the role cannot register the key "+key+" in dbcrypt_keys; run ", remedy.Run("migrate"), " as the owner of the provider tables"),
				}
			}
			registered, err := store.On(pool).RegisterKey(ctx, keys)
			if err != nil {
				return err
			}
			return f.printer().Schema(after, after.Lacks(needs), append(before.Lacks(needs), registration(registered)...))
		},
	}
}

// showSchema prints what is there and what "worker migrate" would do.
func (f *flags) showSchema(ctx context.Context, pool *pgxpool.Pool, config *pgxpool.Config, keys *dbcrypt.Ring) error {
	needs, err := f.source.Prepares(ctx, pool)
	if err != nil {
		return err
	}
	status, err := schema.Inspect(ctx, config.ConnConfig)
	if err != nil {
		return err
	}
	lacks := status.Lacks(needs)
	if len(status.Applied) > 0 {
		key, _, err := store.On(pool).UnregisteredKey(ctx, keys)
		if err != nil {
			return err
		}
		lacks = append(lacks, registration(key)...)
	}
	return f.printer().Schema(status, lacks, nil)
}

// registration names the registration of a key in what "worker migrate" does; none for
// an empty digest.
func registration(digest string) []string {
	if digest == "" {
		return nil
	}
	return []string{"the key " + digest + " in dbcrypt_keys"}
}
