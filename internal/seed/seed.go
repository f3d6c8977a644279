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
func Seed(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, tolerateDrift bool, logger *slog.Logger, options ...Option) (plan drift.Plan, err error) {
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
		if err := store.On(tx).BeginSeed(ctx, store.BeginSeedParams{LockID: Lock, GatewayLockID: GatewayLock}); err != nil {
			return fmt.Errorf("take the seed lock: %w", err)
		}
		o := optionsOf(options)
		sealer, err := SealerFor(ctx, tx, o.keys)
		if err != nil {
			return err
		}
		stored, err := store.On(tx).LoadStored(ctx, provider.Names(desired), o.keys, o.credentials.Compares())
		if err != nil {
			return err
		}
		plan = drift.MakePlan(desired, stored, o.credentials)
		if err := DriftOf(plan); err != nil && !tolerateDrift {
			return err
		}
		return apply(ctx, tx, &plan, sealer, o.announce)
	})
	var drifted *DriftError
	if err != nil && !errors.As(err, &drifted) {
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

// apply writes what the plan asks for, in few statements whatever the number of providers.
func apply(ctx context.Context, tx pgx.Tx, plan *drift.Plan, sealer dbcrypt.Sealer, announce bool) error {
	now := time.Now()
	var rows newRows
	var firstSeen []drift.Observation
	var entries []audit.Entry
	var seeded []string
	for i := range plan.Steps {
		step := &plan.Steps[i]
		switch step.Action {
		case drift.ActionInsert:
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
		case drift.ActionStickyDeleted:
			if step.IsAccepted() {
				continue
			}
			// Warned of by the seed, hence where the watch starts from.
			firstSeen = append(firstSeen, step.Observation)
		}
	}
	if err := rows.insert(ctx, tx, sealer); err != nil {
		return err
	}
	if err := store.On(tx).RecordFirstObservations(ctx, firstSeen); err != nil {
		return fmt.Errorf("record soft-deleted providers: %w", err)
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
	var rows newRows
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
	var rows newRows
	entries, err := rows.addKeys(id, d, actor, time.Now())
	if err != nil {
		return err
	}
	if err := rows.insert(ctx, tx, sealer); err != nil {
		return err
	}
	return audit.Stage(ctx, tx, entries)
}

// newRows collects the rows of providers and keys to be inserted.
type newRows struct {
	providers []store.NewProvider
	keys      []store.NewKey
}

// add adds a provider and its keys, and returns the audit entries for them.
func (r *newRows) add(id uuid.UUID, d provider.Desired, rowType provider.Type, actor string, now time.Time) ([]audit.Entry, error) {
	r.providers = append(r.providers, store.NewProvider{ID: id, Type: rowType, Desired: d})
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

func (r *newRows) addKeys(providerID uuid.UUID, d provider.Desired, actor string, now time.Time) ([]audit.Entry, error) {
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
		r.keys = append(r.keys, store.NewKey{ID: keyID, ProviderID: providerID, Provider: d.Name, Key: key})
		entries = append(entries, audit.Entry{
			ID: entryID, OccurredAt: now, Actor: actor, Action: audit.KeyCreated, Provider: d.Name, ProviderID: providerID,
			Details: audit.Details{KeyID: keyID.String(), Masked: key.Mask()},
		})
	}
	return entries, nil
}

func (r *newRows) insert(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer) error {
	return store.On(tx).InsertProviders(ctx, sealer, r.providers, r.keys)
}
