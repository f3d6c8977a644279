package seed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/secret"
	"provwatch/internal/store"
)

// Lock is the id of the advisory lock that puts seeds in turn (docs/specification.md,
// section 4): the ASCII bytes "provseed". Whatever stages audit entries holds it.
const Lock int64 = 0x70726f7673656564

// GatewayLock is the id of the gateway's own advisory lock, under which one that still
// seeds by itself reads and inserts providers: it waits for a seed of ours and finds
// its rows.
const GatewayLock int64 = 10

// maxTries bounds the attempts of a seed that another writer's commit breaks off.
const maxTries = 5

// Seed inserts the desired providers that the database lacks, in one
// transaction under the advisory locks [Lock] and [GatewayLock], and returns what it did.
//
// When a live row differs from the environment, or cannot be compared, Seed
// writes nothing and returns the plan with a [*DriftError]; with tolerateDrift
// it seeds what is missing all the same and leaves the drift to its caller.
//
// Seeding again is safe after any error, even when the commit's outcome is not
// known: rows that made it are found unchanged.
func Seed(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, tolerateDrift bool, logger *slog.Logger, options ...Option) (plan Plan, err error) {
	for attempt := range (retry.Policy{Tries: maxTries}).Attempts(ctx) {
		plan, err = seedOnce(ctx, pool, desired, tolerateDrift, options...)
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

// canPass reports whether a seed failed for a reason that another attempt may not meet.
func canPass(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains([]string{
		pgerrcode.SerializationFailure,
		pgerrcode.DeadlockDetected,
		pgerrcode.UniqueViolation,     // the gateway can insert a provider without our lock
		pgerrcode.ForeignKeyViolation, // and revoke the key that was active when it was looked for
	}, pg.Code)
}

func seedOnce(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, tolerateDrift bool, options ...Option) (plan Plan, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := store.On(tx).BeginSeed(ctx, store.BeginSeedParams{LockID: Lock, GatewayLockID: GatewayLock}); err != nil {
			return fmt.Errorf("take the seed lock: %w", err)
		}
		o := optionsOf(options)
		sealer, err := SealerFor(ctx, tx, o.keys)
		if err != nil {
			return err
		}
		if plan, err = MakePlan(ctx, tx, desired, false, options...); err != nil {
			return err
		}
		if err := plan.Err(); err != nil && !tolerateDrift {
			return err
		}
		return apply(ctx, tx, &plan, sealer, o.announce)
	})
	var drift *DriftError
	if err != nil && !errors.As(err, &drift) {
		return plan, fmt.Errorf("seed providers: %w", postgres.WithoutValues(err))
	}
	return plan, err
}

// SealerFor returns what encrypts the secrets that are written in the transaction tx.
// It refuses a database with secrets that a former version has encrypted. The error can
// be a [*dbcrypt.UnusableError] or a [*dbcrypt.FormerKeysetError].
func SealerFor(ctx context.Context, tx pgx.Tx, keys *dbcrypt.Ring) (dbcrypt.Sealer, error) {
	queries := store.On(tx)
	if err := queries.RefuseFormerKeyset(ctx); err != nil {
		return dbcrypt.Sealer{}, err
	}
	return queries.Sealer(ctx, keys)
}

// apply writes what the plan asks for. The number of statements does not depend
// on the number of providers up to [store.Chunk] of them, and beyond that they
// are pipelined.
func apply(ctx context.Context, tx pgx.Tx, plan *Plan, sealer dbcrypt.Sealer, announce bool) error {
	now := time.Now()
	var rows providerRows
	var firstSeen observations
	var entries []audit.Entry
	var seeded []string
	for i := range plan.Steps {
		step := &plan.Steps[i]
		switch step.Action {
		case Insert:
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			step.Observation.ProviderID = id
			created, err := rows.add(id, step.Desired, step.RowType, audit.System, now)
			if err != nil {
				return err
			}
			entries = append(entries, created...)
			seeded = append(seeded, pubsub.Seeded{
				Provider:   step.Desired.Name,
				ProviderID: id,
				Type:       step.RowType,
				BaseURL:    provider.DisplayURL(step.Desired.BaseURL),
				Keys:       len(step.Desired.Keys),
				SeededAt:   now,
			}.Payload())
		case StickyDeleted:
			if step.accepted {
				continue
			}
			// Warned of by the seed, hence where the watch starts from.
			firstSeen = append(firstSeen, step.Observation)
		}
	}
	if err := rows.insert(ctx, tx, sealer); err != nil {
		return err
	}
	if err := firstSeen.record(ctx, tx); err != nil {
		return err
	}
	if err := audit.Stage(ctx, tx, entries); err != nil {
		return err
	}
	if announce && len(seeded) > 0 {
		if err := pubsub.Publish(ctx, tx, pubsub.ProvidersChanged, ""); err != nil {
			return err
		}
	}
	return pubsub.Publish(ctx, tx, pubsub.Seeds, seeded...)
}

// InsertProvider inserts one provider, as a row of the type given, with the keys
// that d holds, and stages the audit entries. The transaction tx must hold the seed
// lock.
func InsertProvider(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, d provider.Desired, rowType provider.Type, actor string) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, err
	}
	var rows providerRows
	entries, err := rows.add(id, d, rowType, actor, time.Now())
	if err != nil {
		return uuid.Nil, err
	}
	if err := rows.insert(ctx, tx, sealer); err != nil {
		return uuid.Nil, err
	}
	return id, audit.Stage(ctx, tx, entries)
}

// InsertKeys inserts keys for a provider and stages an audit entry for each, in
// the transaction tx, which must hold the seed lock.
func InsertKeys(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, id uuid.UUID, d provider.Desired, actor string) error {
	var rows providerRows
	entries, err := rows.addKeys(id, d, actor, time.Now())
	if err != nil {
		return err
	}
	if err := rows.insert(ctx, tx, sealer); err != nil {
		return err
	}
	return audit.Stage(ctx, tx, entries)
}

type providerRow struct {
	id      uuid.UUID
	rowType provider.Type
	desired provider.Desired
}

type keyRow struct {
	id, providerID uuid.UUID
	provider       string // its name
	key            secret.Text
}

// providerRows collects the rows of providers and keys to be inserted.
type providerRows struct {
	providers []providerRow
	keys      []keyRow
}

// add adds a provider and its keys, and returns the audit entries for them.
func (r *providerRows) add(id uuid.UUID, d provider.Desired, rowType provider.Type, actor string, now time.Time) ([]audit.Entry, error) {
	r.providers = append(r.providers, providerRow{id: id, rowType: rowType, desired: d})
	entryID, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	keys := len(d.Keys)
	entries := []audit.Entry{{
		ID: entryID, OccurredAt: now, Actor: actor, Action: audit.ProviderCreated, Provider: d.Name, ProviderID: id,
		Details: audit.Details{
			Type:    string(rowType),
			BaseURL: provider.DisplayURL(d.BaseURL),
			Region:  d.DisplayRegion(),
			Keys:    &keys,
		},
	}}
	keyEntries, err := r.addKeys(id, d, actor, now)
	return append(entries, keyEntries...), err
}

func (r *providerRows) addKeys(providerID uuid.UUID, d provider.Desired, actor string, now time.Time) ([]audit.Entry, error) {
	var entries []audit.Entry
	for _, key := range d.Keys {
		keyID, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		entryID, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, keyRow{id: keyID, providerID: providerID, provider: d.Name, key: key})
		entries = append(entries, audit.Entry{
			ID: entryID, OccurredAt: now, Actor: actor, Action: audit.KeyCreated, Provider: d.Name, ProviderID: providerID,
			Details: audit.Details{KeyID: keyID.String(), Masked: key.Mask()},
		})
	}
	return entries, nil
}

func (r *providerRows) insert(ctx context.Context, db store.DBTX, sealer dbcrypt.Sealer) error {
	if len(r.providers)+len(r.keys) == 0 {
		return nil
	}
	queries := store.On(db)
	return queries.WriteProviders(ctx, func() error { return r.write(ctx, queries, sealer) })
}

func (r *providerRows) write(ctx context.Context, queries *store.Queries, sealer dbcrypt.Sealer) error {
	var providers []store.InsertProvidersParams
	for chunk := range slices.Chunk(r.providers, store.Chunk) {
		var p store.InsertProvidersParams
		for _, row := range chunk {
			p.Ids = append(p.Ids, row.id)
			p.Types = append(p.Types, string(row.rowType))
			p.Names = append(p.Names, row.desired.Name)
			p.BaseUrls = append(p.BaseUrls, row.desired.BaseURL)
			settings, keyID, err := sealSettings(sealer, row.desired)
			if err != nil {
				return err
			}
			p.Settings = append(p.Settings, settings)
			p.SettingsKeyIds = append(p.SettingsKeyIds, keyID)
		}
		providers = append(providers, p)
	}
	if len(providers) > 0 {
		if err := store.FirstError(queries.InsertProviders(ctx, providers).Exec); err != nil {
			return fmt.Errorf("insert providers: %w", err)
		}
	}
	var keys []store.InsertProviderKeysParams
	for chunk := range slices.Chunk(r.keys, store.Chunk) {
		var p store.InsertProviderKeysParams
		for _, row := range chunk {
			p.Ids = append(p.Ids, row.id)
			p.ProviderIds = append(p.ProviderIds, row.providerID)
			key, keyID, err := sealKey(sealer, row.provider, row.key)
			if err != nil {
				return err
			}
			p.ApiKeys = append(p.ApiKeys, key)
			p.ApiKeyKeyIds = append(p.ApiKeyKeyIds, keyID)
		}
		keys = append(keys, p)
	}
	if len(keys) > 0 {
		if err := store.FirstError(queries.InsertProviderKeys(ctx, keys).Exec); err != nil {
			return fmt.Errorf("insert provider keys: %w", err)
		}
	}
	return nil
}

// observations are the first ones of providers.
type observations []drift.Observation

func (os observations) record(ctx context.Context, db store.DBTX) error {
	var params []store.RecordFirstObservationsParams
	for chunk := range slices.Chunk(os, store.Chunk) {
		var p store.RecordFirstObservationsParams
		for _, o := range chunk {
			p.Providers = append(p.Providers, o.Provider)
			p.ProviderIds = append(p.ProviderIds, o.ProviderID)
			p.Kinds = append(p.Kinds, string(o.Kind))
			p.EnvHashes = append(p.EnvHashes, o.EnvHash)
			p.DbHashes = append(p.DbHashes, o.DBHash)
		}
		params = append(params, p)
	}
	if len(params) == 0 {
		return nil
	}
	if err := store.FirstError(store.On(db).RecordFirstObservations(ctx, params).Exec); err != nil {
		return fmt.Errorf("record soft-deleted providers: %w", err)
	}
	return nil
}

// sealSettings returns the settings of a provider in the form in which they are stored.
func sealSettings(sealer dbcrypt.Sealer, d provider.Desired) (stored, keyID string, err error) {
	if stored, keyID, err = sealer.SealSettings(d.Settings(), d.Bedrock.HasCredentials()); err != nil {
		err = fmt.Errorf("the settings of provider %q cannot be stored: %w", d.Name, err)
	}
	return stored, keyID, err
}

// sealKey returns an API key of a provider in the form in which it is stored.
func sealKey(sealer dbcrypt.Sealer, name string, key secret.Text) (stored, keyID string, err error) {
	if stored, keyID, err = sealer.Seal(key); err != nil {
		err = fmt.Errorf("an API key of provider %q cannot be stored: %w", name, err)
	}
	return stored, keyID, err
}
