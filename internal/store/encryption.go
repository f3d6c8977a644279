package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/remedy"
)

// maxRaces bounds how often a registration is tried while others register keys.
const maxRaces = 5

// KeyTable reads what the database has of dbcrypt_keys, which the role must have SELECT
// on. The error is a [*dbcrypt.UnusableError] when something else is in the table's place.
func (q *Queries) KeyTable(ctx context.Context) (dbcrypt.Table, error) {
	found, err := q.inspectKeyTable(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return dbcrypt.Table{}, nil
	}
	if err != nil {
		return dbcrypt.Table{}, fmt.Errorf("look for the table dbcrypt_keys: %w", err)
	}
	switch {
	case found.Kind == "":
		return dbcrypt.Table{Own: found.Own}, nil
	case found.Kind != "r":
		return dbcrypt.Table{}, &dbcrypt.UnusableError{
			Reason: "dbcrypt_keys is not an ordinary table",
			Remedy: remedy.Advice{"look at what is in its place, and drop it if it is not the gateway's"},
		}
	case !found.Trusted:
		return dbcrypt.Table{}, &dbcrypt.UnusableError{
			Reason: fmt.Sprintf("the table dbcrypt_keys belongs to the role %q, which owns neither the provider tables nor their schema", found.Owner),
			Remedy: remedy.Advice{"let the owner of ai_providers own it, or drop it if it is not the gateway's"},
		}
	}
	table := dbcrypt.Table{Exists: true, Own: found.Own, Insertable: found.Insertable}
	table.Rows, err = q.registeredKeys(ctx)
	return table, err
}

// ForeignKeyTable is [Queries.KeyTable] for a database that provwatch has not migrated,
// where the provider tables are another program's. It does not check the table's owner.
func (q *Queries) ForeignKeyTable(ctx context.Context) (dbcrypt.Table, error) {
	rows, err := q.registeredKeys(ctx)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == pgerrcode.UndefinedTable {
		return dbcrypt.Table{}, nil
	}
	return dbcrypt.Table{Exists: true, Rows: rows}, err
}

// registeredKeys returns the rows of dbcrypt_keys.
func (q *Queries) registeredKeys(ctx context.Context) ([]dbcrypt.Registered, error) {
	rows, err := q.listKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the table dbcrypt_keys: %w", err)
	}
	registered := make([]dbcrypt.Registered, len(rows))
	for i, row := range rows {
		registered[i] = dbcrypt.Registered{
			Number: row.Number, Active: deref(row.ActiveKeyDigest), Revoked: deref(row.RevokedKeyDigest), Test: row.Test,
		}
	}
	return registered, nil
}

// Sealer is [dbcrypt.Ring.Sealer] for the present database.
func (q *Queries) Sealer(ctx context.Context, keys *dbcrypt.Ring) (dbcrypt.Sealer, error) {
	table, err := q.KeyTable(ctx)
	if err != nil {
		return dbcrypt.Sealer{}, err
	}
	return keys.Sealer(table)
}

// WriteSealer is [Queries.Sealer] for secrets that are written in the transaction of the
// queries. It refuses a database with secrets that a former version has encrypted. The error
// can be a [*dbcrypt.UnusableError] or a [*dbcrypt.FormerKeysetError].
func (q *Queries) WriteSealer(ctx context.Context, keys *dbcrypt.Ring) (dbcrypt.Sealer, error) {
	if err := q.RefuseFormerKeyset(ctx); err != nil {
		return dbcrypt.Sealer{}, err
	}
	return q.Sealer(ctx, keys)
}

// UnregisteredKey returns the digest of the key that [Queries.RegisterKey] would
// register, empty for none, and whether the role may register it.
func (q *Queries) UnregisteredKey(ctx context.Context, keys *dbcrypt.Ring) (digest string, insertable bool, err error) {
	row, insertable, err := q.unregisteredKey(ctx, keys)
	if row == nil || err != nil {
		return "", false, err
	}
	return row.Active, insertable, nil
}

// unregisteredKey reads the keys of the database only where provwatch made the table: the
// role of "worker migrate" need not have SELECT on the gateway's.
func (q *Queries) unregisteredKey(ctx context.Context, keys *dbcrypt.Ring) (row *dbcrypt.Registered, insertable bool, err error) {
	if len(keys.Keys().Digests()) == 0 {
		return nil, false, nil
	}
	found, err := q.inspectKeyTable(ctx)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !found.Own {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look for the table dbcrypt_keys: %w", err)
	}
	table, err := q.KeyTable(ctx)
	if err != nil {
		return nil, false, err
	}
	row, err = keys.Registration(table)
	return row, table.Insertable, err
}

// RegisterKey registers the first configured key where [dbcrypt.Ring.Registration]
// returns one, and returns its digest. The digest is empty where there is nothing to
// register, or the role lacks the privilege.
func (q *Queries) RegisterKey(ctx context.Context, keys *dbcrypt.Ring) (digest string, err error) {
	for range maxRaces {
		row, insertable, err := q.unregisteredKey(ctx, keys)
		if err != nil || row == nil || !insertable {
			return "", err
		}
		inserted, err := q.registerKey(ctx, registerKeyParams{Number: row.Number, ActiveKeyDigest: row.Active, Test: row.Test})
		if err != nil {
			return "", fmt.Errorf("register the key %s in dbcrypt_keys: %w", row.Active, err)
		}
		if inserted > 0 {
			return row.Active, nil
		}
	}
	return "", errors.New("register a key in dbcrypt_keys: other workers keep registering keys")
}

// maxFormer is how many pairs of a provider and a key a [dbcrypt.FormerKeysetError] names.
const maxFormer = 10

// RefuseFormerKeyset returns a [*dbcrypt.FormerKeysetError] when the database has secrets
// that a former version has encrypted.
func (q *Queries) RefuseFormerKeyset(ctx context.Context) error {
	rows, err := q.listOfFormerKeyset(ctx, maxFormer)
	if err != nil {
		return fmt.Errorf("look for secrets of a former version: %w", err)
	}
	if len(rows) == 0 {
		return nil
	}
	var found dbcrypt.FormerKeysetError
	for _, row := range rows {
		if !slices.Contains(found.Providers, row.Name) {
			found.Providers = append(found.Providers, row.Name)
		}
		if !slices.Contains(found.KeyIDs, row.KeyID) {
			found.KeyIDs = append(found.KeyIDs, row.KeyID)
		}
	}
	return &found
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
