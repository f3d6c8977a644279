package dbcrypt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/store"
)

// maxRaces bounds how often a registration is tried while others register keys.
const maxRaces = 5

// Load reads what the database has of dbcrypt_keys, which the role must have SELECT on.
// The error is an [*UnusableError] when something else is in the table's place.
func Load(ctx context.Context, db store.DBTX) (Table, error) {
	queries := store.On(db)
	found, err := queries.InspectKeyTable(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return Table{}, nil
	}
	if err != nil {
		return Table{}, fmt.Errorf("look for the table dbcrypt_keys: %w", err)
	}
	switch {
	case found.Kind == "":
		return Table{Own: found.Own}, nil
	case found.Kind != "r":
		return Table{}, &UnusableError{
			Reason: "dbcrypt_keys is not an ordinary table",
			Remedy: "look at what is in its place, and drop it if it is not the gateway's",
		}
	case !found.Trusted:
		return Table{}, &UnusableError{
			Reason: fmt.Sprintf("the table dbcrypt_keys belongs to the role %q, which owns neither the provider tables nor their schema", found.Owner),
			Remedy: "let the owner of ai_providers own it, or drop it if it is not the gateway's",
		}
	}
	table := Table{Exists: true, Own: found.Own, Insertable: found.Insertable}
	err = table.read(ctx, queries)
	return table, err
}

// LoadForeign is [Load] for a database that provwatch has not migrated, where the
// provider tables are another program's. It does not look whom the table belongs to.
func LoadForeign(ctx context.Context, db store.DBTX) (Table, error) {
	table := Table{Exists: true}
	err := table.read(ctx, store.On(db))
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == pgerrcode.UndefinedTable {
		return Table{}, nil
	}
	return table, err
}

// read reads the rows of the table.
func (t *Table) read(ctx context.Context, queries *store.Queries) error {
	rows, err := queries.ListKeys(ctx)
	if err != nil {
		return fmt.Errorf("read the table dbcrypt_keys: %w", err)
	}
	for _, row := range rows {
		registered := Registered{Number: row.Number, Test: row.Test}
		if row.ActiveKeyDigest != nil {
			registered.Active = *row.ActiveKeyDigest
		}
		if row.RevokedKeyDigest != nil {
			registered.Revoked = *row.RevokedKeyDigest
		}
		t.Rows = append(t.Rows, registered)
	}
	return nil
}

// SealerFor is [Ring.Sealer] for the database as it is.
func (r *Ring) SealerFor(ctx context.Context, db store.DBTX) (Sealer, error) {
	table, err := Load(ctx, db)
	if err != nil {
		return Sealer{}, err
	}
	return r.Sealer(table)
}

// Unregistered returns the digest of the key that [Ring.Register] would register,
// empty for none, and whether the role may register it.
func (r *Ring) Unregistered(ctx context.Context, db store.DBTX) (digest string, insertable bool, err error) {
	row, insertable, err := r.unregistered(ctx, db)
	if row == nil || err != nil {
		return "", false, err
	}
	return row.Active, insertable, nil
}

// unregistered reads the keys of the database only where provwatch made the table: the
// role of "worker migrate" need not have SELECT on the gateway's.
func (r *Ring) unregistered(ctx context.Context, db store.DBTX) (row *Registered, insertable bool, err error) {
	if len(r.Keys().list) == 0 {
		return nil, false, nil
	}
	found, err := store.On(db).InspectKeyTable(ctx)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !found.Own {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look for the table dbcrypt_keys: %w", err)
	}
	table, err := Load(ctx, db)
	if err != nil {
		return nil, false, err
	}
	row, err = r.Registration(table)
	return row, table.Insertable, err
}

// Register registers the first configured key where [Ring.Registration] says so, and
// returns its digest; empty where there is nothing to register, or the role may not.
func (r *Ring) Register(ctx context.Context, db store.DBTX) (digest string, err error) {
	for range maxRaces {
		row, insertable, err := r.unregistered(ctx, db)
		if err != nil || row == nil || !insertable {
			return "", err
		}
		inserted, err := store.On(db).RegisterKey(ctx, store.RegisterKeyParams{Number: row.Number, ActiveKeyDigest: row.Active, Test: row.Test})
		if err != nil {
			return "", fmt.Errorf("register the key %s in dbcrypt_keys: %w", row.Active, err)
		}
		if inserted > 0 {
			return row.Active, nil
		}
	}
	return "", errors.New("register a key in dbcrypt_keys: others register keys all the while")
}

// FormerKeysetError says that stored secrets are of the --keyset of a former version. It
// is an [ErrFormerKeyset].
type FormerKeysetError struct {
	Providers []string // some of those that have such secrets
	KeyIDs    []string // of the keyset
}

// Unwrap returns [ErrFormerKeyset].
func (e *FormerKeysetError) Unwrap() error { return ErrFormerKeyset }

func (e *FormerKeysetError) Error() string {
	quoted := make([]string, len(e.Providers))
	for i, name := range e.Providers {
		quoted[i] = strconv.Quote(name)
	}
	return fmt.Sprintf("stored secrets of %s %s are encrypted with %s %s of the --keyset of a former version: %s",
		english.PluralWord(len(quoted), "provider", ""), strings.Join(quoted, ", "),
		english.PluralWord(len(e.KeyIDs), "key", ""), strings.Join(e.KeyIDs, ", "), FormerKeysetRemedy)
}

// maxFormer is how many pairs of a provider and a key a [FormerKeysetError] names.
const maxFormer = 10

// RefuseFormer returns a [*FormerKeysetError] when the database has secrets that a
// former version has encrypted.
func RefuseFormer(ctx context.Context, db store.DBTX) error {
	rows, err := store.On(db).ListOfFormerKeyset(ctx, maxFormer)
	if err != nil {
		return fmt.Errorf("look for secrets of a former version: %w", err)
	}
	if len(rows) == 0 {
		return nil
	}
	var found FormerKeysetError
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
