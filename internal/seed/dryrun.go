package seed

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// DryRun returns the plan of a [Seed], for a database that need not have been migrated, and
// writes nothing.
func DryRun(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, options ...Option) (drift.Plan, error) {
	o := optionsOf(options)
	stored, err := store.InspectStored(ctx, pool, provider.Names(desired), o.keys, o.credentials.Compares())
	if err != nil {
		return drift.Plan{}, err
	}
	return drift.MakePlan(desired, stored, o.credentials), nil
}

// Refusal returns the error with which a [Seed] of the plan would fail because the
// secrets of the database cannot be written, nil where it would not. Like [DryRun] it is
// for a database that need not have been migrated, and writes nothing. What the role may
// not read is no reason to refuse: a seed says which privilege it lacks. register says
// that the seed would register a first key where it may.
func Refusal(ctx context.Context, db store.DBTX, plan drift.Plan, keys *dbcrypt.Ring, register bool) error {
	sealer, err := dryRunSealer(ctx, db, keys, register)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == pgerrcode.InsufficientPrivilege:
		return nil
	case err != nil:
		return err
	case DriftOf(plan) != nil: // with which a seed fails before it writes
		return nil
	}
	for _, s := range plan.Steps {
		if s.Action != drift.ActionInsert {
			continue
		}
		if err := store.CheckSealing(sealer, s.Desired); err != nil {
			return err
		}
	}
	return nil
}

// dryRunSealer is [store.Queries.WriteSealer] for a database that need not have been migrated.
func dryRunSealer(ctx context.Context, db store.DBTX, keys *dbcrypt.Ring, register bool) (dbcrypt.Sealer, error) {
	queries := store.On(db)
	found, err := queries.InspectSchema(ctx)
	if err != nil {
		return dbcrypt.Sealer{}, fmt.Errorf("look at the schema: %w", err)
	}
	if !found.Providers || !found.ProviderKeys || found.Migrations && !found.HashKey {
		return dbcrypt.Sealer{}, nil // the seed makes tables first, and registers a key in its own
	}
	if err := queries.RefuseFormerKeyset(ctx); err != nil {
		return dbcrypt.Sealer{}, err
	}
	if !found.Migrations {
		table, err := queries.ForeignKeyTable(ctx)
		if err != nil {
			return dbcrypt.Sealer{}, err
		}
		return keys.Sealer(table)
	}
	if register {
		digest, insertable, err := queries.UnregisteredKey(ctx, keys)
		if err != nil {
			return dbcrypt.Sealer{}, err
		}
		if digest != "" && insertable {
			return dbcrypt.Sealer{}, nil
		}
	}
	return queries.Sealer(ctx, keys)
}
