// Package reconcile ends a drift as an operator decides: by writing the
// environment's fields to the database, or by accepting the database's.
package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	"provwatch/internal/seed"
	"provwatch/internal/store"
)

// Outcome says what was resolved.
type Outcome struct {
	Provider   string     `json:"provider"`
	ProviderID uuid.UUID  `json:"provider_id"`
	Kind       drift.Kind `json:"kind"` // of the drift that was found; in_sync: nothing was written
	// Fields were written, where the environment's side was taken, or else differ
	// and were accepted.
	Fields []drift.Field `json:"fields"`
	// KeysReplaced reports that stored credentials differed, and now are the
	// environment's.
	KeysReplaced bool `json:"keys_replaced"`
	// KeysAgree reports that they were to be written, and were the environment's
	// already.
	KeysAgree bool `json:"keys_agree"`
	// KeysDiffer reports that they were compared, differ, and were left as they are.
	KeysDiffer bool `json:"keys_differ"`
	// AlreadyAccepted reports that the drift was accepted before, as it is now:
	// nothing was written.
	AlreadyAccepted bool `json:"already_accepted"`
}

// Written reports whether anything was written, and so an audit entry staged.
func (o Outcome) Written() bool {
	return !o.AlreadyAccepted && (o.Kind != drift.InSync || o.KeysReplaced)
}

// TakeEnv writes the environment's fields to the provider's row: a changed row
// is updated, a disabled one enabled, a soft-deleted one restored, a missing one
// inserted. It writes what differs alone: columns and members of the settings that
// provwatch does not know stay unchanged, and so do the models. Credentials are
// written only withKeys, since they may have been rotated in the database, and key
// rows that hold a key of the environment stay even then. An error, with nothing
// written, is what would remove stored credentials without it or where the
// environment has none; what would remove members of the settings that provwatch
// does not know; what would leave API keys to a provider that uses none; a drift of
// nothing but credentials without it; and a secret that cannot be encrypted as the
// gateway encrypts it. It is audited in the actor's name.
// compareCredentials says whether differing credentials count as a drift, which
// they also do with [seed.RequireCredentials].
func TakeEnv(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired provider.Desired, withKeys, compareCredentials bool, actor string, options ...seed.Option) (Outcome, error) {
	return resolve(ctx, pool, keys, desired, withKeys || compareCredentials, func(tx pgx.Tx, step seed.Step, sealer dbcrypt.Sealer) (Outcome, error) {
		return takeEnv(ctx, tx, encryption{keys, sealer}, step, withKeys, actor)
	}, options...)
}

// TakeDB records that the database's difference from the environment is
// accepted. It holds while both canonical hashes stay as they are, and then
// neither fails a boot nor is alerted. It is audited in the actor's name, unless it
// is accepted as it is already.
// compareCredentials says whether differing credentials count as a drift. With
// [seed.RequireCredentials] they cannot be accepted: a seed would not go by it.
func TakeDB(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired provider.Desired, compareCredentials bool, actor string, options ...seed.Option) (Outcome, error) {
	return resolve(ctx, pool, keys, desired, compareCredentials, func(tx pgx.Tx, step seed.Step, _ dbcrypt.Sealer) (Outcome, error) {
		return takeDB(ctx, tx, step, actor)
	}, options...)
}

// encryption decrypts what is stored and encrypts what is written.
type encryption struct {
	keys   *dbcrypt.Ring
	sealer dbcrypt.Sealer
}

func resolve(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired provider.Desired, compareCredentials bool,
	take func(pgx.Tx, seed.Step, dbcrypt.Sealer) (Outcome, error), options ...seed.Option,
) (outcome Outcome, err error) {
	once := func(tx pgx.Tx) error {
		if err := store.On(tx).LockSeed(ctx, seed.Lock); err != nil {
			return fmt.Errorf("take the seed lock: %w", err)
		}
		// Whoever is writing to the row, such as a gateway that rotates its
		// credentials or turns encryption on, goes first: what it writes is what is read
		// below.
		if _, err := store.On(tx).LockProviders(ctx, desired.Name); err != nil {
			return fmt.Errorf("lock its row: %w", err)
		}
		sealer, err := seed.SealerFor(ctx, tx, keys)
		if err != nil {
			return err
		}
		plan, err := seed.MakePlan(ctx, tx, []provider.Desired{desired}, compareCredentials, append(options, seed.WithKeys(keys))...)
		if err != nil {
			return err
		}
		if plan.Steps[0].Action == seed.Unsupported {
			return fmt.Errorf("the database's enum ai_provider_type lacks the type %s", desired.Type)
		}
		outcome, err = take(tx, plan.Steps[0], sealer)
		if err != nil {
			return err
		}
		if !outcome.Written() {
			return nil
		}
		// Watching workers look again, with our triggers or without.
		return pubsub.Publish(ctx, tx, pubsub.ProvidersChanged, outcome.ProviderID.String())
	}
	err = pgx.BeginFunc(ctx, pool, once)
	if isRevoked(err) {
		err = pgx.BeginFunc(ctx, pool, once)
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("resolve provider %q: %w", desired.Name, postgres.WithoutValues(err))
	}
	return outcome, nil
}

func takeEnv(ctx context.Context, tx pgx.Tx, with encryption, step seed.Step, withKeys bool, actor string) (Outcome, error) {
	queries := store.On(tx)
	desired, observed := step.Desired, step.Observation
	outcome := Outcome{
		Provider: desired.Name, ProviderID: observed.ProviderID,
		Kind: observed.Kind, Fields: observed.Fields, KeysReplaced: withKeys,
	}
	if !withKeys && observed.CredentialsProblem() != nil {
		observed = observed.WithoutCredentials()
		if observed.Kind == drift.InSync {
			return outcome, fmt.Errorf("%w; stored credentials may have been rotated, and are not overwritten unasked: "+
				"repeat with --with-keys to replace them by the environment's, or set those of the database in the environment (%s)",
				step.Observation.CredentialsProblem(), step.CredentialsOrigin())
		}
		outcome.Fields, outcome.KeysDiffer = observed.Fields, true
	}
	if err := queries.WithdrawAcceptedDrift(ctx, desired.Name); err != nil {
		return outcome, err
	}
	if observed.Kind == drift.Missing {
		if !withKeys {
			desired = desired.WithoutCredentials()
		}
		id, err := seed.InsertProvider(ctx, tx, with.sealer, desired, step.RowType, actor)
		outcome.ProviderID = id
		return outcome, err
	}
	if observed.Kind == drift.InSync {
		// Nothing differs that was compared; withKeys, credentials were.
		outcome.KeysReplaced = false
		return outcome, nil
	}
	if observed.Unreadable != nil {
		return outcome, unreadable(observed.ProviderID, observed.Unreadable)
	}
	var settings []byte
	if concernsSettings(step) {
		var err error
		if settings, err = with.keys.Open(step.Row.Settings, step.Row.SettingsKeyID); err != nil {
			return outcome, unreadable(observed.ProviderID, err)
		}
		defer clear(settings)
	}
	w, err := planWrite(step, settings, withKeys)
	if err != nil {
		return outcome, err
	}
	if err := w.refuseUnusedKeys(ctx, queries, step, withKeys); err != nil {
		return outcome, err
	}
	outcome.Fields = w.fields
	outcome.KeysReplaced, outcome.KeysAgree = w.ofCredentials(), withKeys && !w.ofCredentials()
	return outcome, w.carryOut(ctx, tx, with.sealer, step, actor)
}

// carryOut writes, and stages the audit entries for what it writes.
func (w write) carryOut(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, step seed.Step, actor string) error {
	queries := store.On(tx)
	desired, observed := step.Desired, step.Observation
	now := time.Now()
	var entries []audit.Entry
	if w.ofRow() {
		columns := w.columns
		if w.settings != nil {
			stored, keyID, err := sealer.SealSettings(*w.settings, w.secretSettings)
			if err != nil {
				return fmt.Errorf("its settings cannot be stored: %w", err)
			}
			columns.Settings = &stored
			if keyID != step.Row.SettingsKeyID {
				columns.SettingsKeyID = &keyID
			}
		}
		err := queries.WriteProviders(ctx, func() error {
			updated, err := queries.UpdateProvider(ctx, observed.ProviderID, columns)
			if err == nil && updated != 1 {
				err = errors.New("it is gone")
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("update the row: %w", err)
		}
		ofRow := slices.DeleteFunc(slices.Clone(w.fields), func(f drift.Field) bool { return f.Name == drift.APIKeysField })
		entries = append(entries, audit.Entry{
			OccurredAt: now, Actor: actor, Action: audit.ProviderUpdated, Provider: desired.Name, ProviderID: observed.ProviderID,
			Details: audit.Details{Changes: changes(ofRow), EnvHash: observed.EnvHash, DBHash: observed.DBHash},
		})
	}
	if len(w.removed) > 0 {
		var ids []uuid.UUID
		for _, key := range w.removed {
			ids = append(ids, key.ID)
			deleted := audit.Entry{
				OccurredAt: now, Actor: actor, Action: audit.KeyDeleted, Provider: desired.Name, ProviderID: observed.ProviderID,
				Details: audit.Details{KeyID: key.ID.String()},
			}
			if key.KeyID == "" { // decrypted
				deleted.Details.Masked = key.Key.Mask()
			}
			entries = append(entries, deleted)
		}
		err := queries.WriteProviders(ctx, func() error {
			return queries.DeleteProviderKeys(ctx, store.DeleteProviderKeysParams{ProviderID: observed.ProviderID, Ids: ids})
		})
		if err != nil {
			return fmt.Errorf("delete stored keys: %w", err)
		}
	}
	if err := stage(ctx, tx, entries); err != nil {
		return err
	}
	desired.Keys = w.added
	return seed.InsertKeys(ctx, tx, sealer, observed.ProviderID, desired, actor)
}

// changes turns differences into what writing the environment's side changes.
func changes(fields []drift.Field) []audit.Change {
	list := make([]audit.Change, len(fields))
	for i, f := range fields {
		list[i] = audit.Change{Field: f.Name, Old: f.DB, New: f.Env}
	}
	return list
}

func takeDB(ctx context.Context, tx pgx.Tx, step seed.Step, actor string) (Outcome, error) {
	observed := step.Observation
	outcome := Outcome{Provider: observed.Provider, ProviderID: observed.ProviderID, Kind: observed.Kind, Fields: observed.Fields}
	switch {
	case observed.Kind == drift.InSync:
		return outcome, nil
	case observed.Kind == drift.Missing:
		return outcome, fmt.Errorf("it has no row that could be kept, and the next boot seeds it again; remove its variables (%s) instead", step.Desired.Variables)
	case step.CredentialsProblem() != nil:
		return outcome, fmt.Errorf("%w; that cannot be accepted with --compat=upstream-credentials, since nothing is stored of credentials that it could be tied to; "+
			"use --take env --with-keys, or drop --compat=upstream-credentials", step.CredentialsProblem())
	case observed.Unreadable != nil, observed.Kind == drift.NotComparable:
		return outcome, fmt.Errorf("its row cannot be compared, hence not accepted: %w", cmp.Or(observed.Unreadable, observed.UnreadableCredentials))
	case step.Accepted():
		outcome.AlreadyAccepted = true
		return outcome, nil
	}
	if err := store.On(tx).AcceptDrift(ctx, observed.Provider, drift.Acceptance{
		Kind: observed.Kind, EnvHash: observed.EnvHash, DBHash: observed.DBHash,
	}, actor); err != nil {
		return outcome, fmt.Errorf("accept the drift: %w", err)
	}
	return outcome, stage(ctx, tx, []audit.Entry{{
		OccurredAt: time.Now(), Actor: actor, Action: audit.DriftAccepted, Provider: observed.Provider, ProviderID: observed.ProviderID,
		Details: audit.Details{
			Kind: string(observed.Kind), EnvHash: observed.EnvHash, DBHash: observed.DBHash, Changes: acceptedValues(observed.Fields),
		},
	}})
}

// acceptedValues turns differences into what accepting the database's side means:
// its value stands instead of the environment's.
func acceptedValues(fields []drift.Field) []audit.Change {
	list := make([]audit.Change, len(fields))
	for i, f := range fields {
		list[i] = audit.Change{Field: f.Name, Old: f.Env, New: f.DB}
	}
	return list
}

func stage(ctx context.Context, tx pgx.Tx, entries []audit.Entry) error {
	for i := range entries {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		entries[i].ID = id
	}
	return audit.Stage(ctx, tx, entries)
}

// isRevoked reports whether a write failed because the key that it encrypted with was
// revoked after it had been looked for: another try finds the one that is active now.
func isRevoked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == pgerrcode.ForeignKeyViolation
}
