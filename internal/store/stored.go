package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// LoadStored returns what the database has of the providers named, in one round trip, and
// with credentials set their API keys in another. The keys decrypt the rows. The role needs
// no privilege on what workers record.
func (q *Queries) LoadStored(ctx context.Context, names []string, keys *dbcrypt.Ring, credentials bool) (drift.Stored, error) {
	stored, err := q.loadStored(ctx, names, keys, credentials)
	if err != nil {
		return drift.Stored{}, fmt.Errorf("load providers, accepted drifts and the types that the database knows: %w", err)
	}
	return stored, nil
}

// maxLocks bounds how often [Queries.LoadLocked] locks rows.
const maxLocks = 10

// LoadLocked is [Queries.LoadStored] of rows that it locks until the end of the transaction, so
// that what is read of them is what is written over. A program can insert a row of one of the
// names after the lock, or rename one to it: then all are locked and read again.
func (q *Queries) LoadLocked(ctx context.Context, names []string, keys *dbcrypt.Ring, credentials bool) (drift.Stored, error) {
	for range maxLocks {
		ids, err := q.LockProviders(ctx, names)
		if err != nil {
			return drift.Stored{}, fmt.Errorf("lock the rows: %w", err)
		}
		stored, err := q.LoadStored(ctx, names, keys, credentials)
		if err != nil {
			return drift.Stored{}, err
		}
		locked := make(map[uuid.UUID]bool, len(ids))
		for _, id := range ids {
			locked[id] = true
		}
		if !slices.ContainsFunc(stored.Rows, func(row provider.Row) bool { return !locked[row.ID] }) {
			return stored, nil
		}
	}
	return drift.Stored{}, errors.New("lock the rows: another program keeps making rows of these names")
}

func (q *Queries) loadStored(ctx context.Context, names []string, keys *dbcrypt.Ring, credentials bool) (stored drift.Stored, err error) {
	var batch pgx.Batch
	var providers []listProvidersRow
	var accepted []listAcceptedDriftsRow
	var bases []listBasesRow
	var hashKeys [][]byte
	// The bases come first. Each statement shows a later moment than the one before, and a base
	// must not be newer than the rows that are found to agree and replace it.
	collect(&batch, &bases, pgx.RowToStructByPos[listBasesRow], listBases, names)
	collect(&batch, &providers, pgx.RowToStructByPos[listProvidersRow], listProviders, names)
	collect(&batch, &accepted, pgx.RowToStructByPos[listAcceptedDriftsRow], listAcceptedDrifts, names)
	collect(&batch, (*[]string)(&stored.Types), pgx.RowTo[string], listProviderTypes)
	collect(&batch, &hashKeys, pgx.RowTo[[]byte], readHashKey)
	if err := q.send(ctx, &batch); err != nil {
		return drift.Stored{}, err
	}
	if stored.Hasher, err = hasherOf(hashKeys); err != nil {
		return drift.Stored{}, err
	}
	stored.Accepted = make(map[string]*drift.Acceptance, len(accepted))
	for _, a := range accepted {
		stored.Accepted[a.Provider] = acceptanceOf(&a.Kind, &a.EnvHash, &a.DbHash, a.ExpiresAt, nil, a.At)
	}
	if stored.Bases, err = basesOf(bases); err != nil {
		return drift.Stored{}, err
	}
	stored.Rows, err = q.rowsOf(ctx, providers, keys, credentials)
	return stored, err
}

// migratedTypes are the labels of the enum that our migration makes in a database without
// one.
var migratedTypes = []string{string(provider.OpenAI), string(provider.Anthropic)}

// InspectStored is [Queries.LoadStored] in a read-only transaction, for a database that need
// not have been migrated: tables that are not there count as empty ones.
func InspectStored(ctx context.Context, pool *pgxpool.Pool, names []string, keys *dbcrypt.Ring, credentials bool) (stored drift.Stored, err error) {
	readOnly := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, pool, readOnly, func(tx pgx.Tx) error {
		q := On(tx)
		found, err := q.InspectSchema(ctx)
		if err != nil {
			return fmt.Errorf("look at the schema: %w", err)
		}
		if found.Providers && found.ProviderKeys && found.AcceptedDrifts && found.BasePairs && found.HashKey {
			stored, err = q.LoadStored(ctx, names, keys, credentials)
			return err
		}
		stored = drift.Stored{Types: migratedTypes, Hasher: provider.NewRandomHasher()}
		if !found.Providers || !found.ProviderKeys {
			return nil
		}
		if stored.Rows, err = q.ListProviders(ctx, names, keys, credentials); err != nil {
			return fmt.Errorf("load providers: %w", err)
		}
		if stored.Types, err = q.ListProviderTypes(ctx); err != nil {
			return fmt.Errorf("look up the types that the database knows: %w", err)
		}
		return nil
	})
	return stored, err
}
