// Package resolve ends a drift as an operator decides: by writing the
// environment's fields to the database, or by accepting the database's.
package resolve

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/audit"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/store"
)

// Outcome says what was resolved.
type Outcome struct {
	Provider   string           `json:"provider"`
	ProviderID uuid.UUID        `json:"provider_id"`
	Kind       provider.Kind    `json:"kind"` // of the drift that was found; in_sync: nothing was written
	Fields     []provider.Field `json:"fields"`
	// KeysReplaced reports whether the stored credentials are now the
	// environment's.
	KeysReplaced bool `json:"keys_replaced"`
	// KeysDiffer reports that they were compared, differ, and were left as they are.
	KeysDiffer bool `json:"keys_differ"`
	// AlreadyAccepted reports that the drift was accepted before, as it is now:
	// nothing was written.
	AlreadyAccepted bool `json:"already_accepted"`
}

// Keys encrypts the secrets that are stored, and decodes stored settings.
type Keys interface {
	seed.Keys
	// Primary returns the id of the key that secrets are encrypted with, empty when
	// they are stored in plain text.
	Primary() string
	OpenSettings(id uuid.UUID, stored secret.Text, keyID string) (*provider.Bedrock, error)
}

// TakeEnv writes the environment's fields to the provider's row: a changed row
// is updated, a disabled one enabled, a soft-deleted one restored, a missing one
// inserted. Credentials are written only withKeys, since whoever rotated them may
// have done so in the database; what would discard stored ones without it is an
// error, and so is a drift of nothing but credentials, and what would put plain
// text in the place of encrypted ones. It is audited in the actor's name.
// compareCredentials says whether differing credentials count as a drift, which
// they also do with [seed.RequireCredentials].
func TakeEnv(ctx context.Context, pool *pgxpool.Pool, keys Keys, desired provider.Desired, withKeys, compareCredentials bool, actor string, options ...seed.Option) (Outcome, error) {
	return resolve(ctx, pool, keys, desired, withKeys || compareCredentials, func(tx pgx.Tx, step seed.Step) (Outcome, error) {
		return takeEnv(ctx, tx, keys, step, withKeys, actor)
	}, options...)
}

// TakeDB records that the database's difference from the environment is
// accepted. It holds while both canonical hashes stay as they are, and then
// neither fails a boot nor is alerted. It is audited in the actor's name, unless it
// is accepted as it is already.
// compareCredentials says whether differing credentials count as a drift. With
// [seed.RequireCredentials] they cannot be accepted: a seed would not go by it.
func TakeDB(ctx context.Context, pool *pgxpool.Pool, keys Keys, desired provider.Desired, compareCredentials bool, actor string, options ...seed.Option) (Outcome, error) {
	return resolve(ctx, pool, keys, desired, compareCredentials, func(tx pgx.Tx, step seed.Step) (Outcome, error) {
		return takeDB(ctx, tx, step, actor)
	}, options...)
}

func resolve(ctx context.Context, pool *pgxpool.Pool, keys Keys, desired provider.Desired, compareCredentials bool,
	take func(pgx.Tx, seed.Step) (Outcome, error), options ...seed.Option,
) (outcome Outcome, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := store.On(tx).LockSeed(ctx, seed.Lock); err != nil {
			return fmt.Errorf("take the seed lock: %w", err)
		}
		// Whoever is writing to the row, such as a gateway that rotates its
		// credentials, goes first: what it writes is what is read below.
		if _, err := store.On(tx).LockProviders(ctx, desired.Name); err != nil {
			return fmt.Errorf("lock its row: %w", err)
		}
		plan, err := seed.MakePlan(ctx, tx, []provider.Desired{desired}, compareCredentials, append(options, seed.WithKeys(keys))...)
		if err != nil {
			return err
		}
		if plan.Steps[0].Action == seed.Unsupported {
			return fmt.Errorf("the database's enum ai_provider_type lacks the type %s", desired.Type)
		}
		outcome, err = take(tx, plan.Steps[0])
		if err != nil {
			return err
		}
		if outcome.AlreadyAccepted || outcome.Kind == provider.InSync && !outcome.KeysReplaced {
			return nil
		}
		// Watching workers look again, with our triggers or without.
		return pubsub.Publish(ctx, tx, pubsub.ProvidersChanged, outcome.ProviderID.String())
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("resolve provider %q: %w", desired.Name, postgres.WithoutValues(err))
	}
	return outcome, nil
}

func takeEnv(ctx context.Context, tx pgx.Tx, keys Keys, step seed.Step, withKeys bool, actor string) (Outcome, error) {
	queries := store.On(tx)
	desired, observed := step.Desired, step.Observation
	outcome := Outcome{
		Provider: desired.Name, ProviderID: observed.ProviderID,
		Kind: observed.Kind, Fields: observed.Fields, KeysReplaced: withKeys,
	}
	if !withKeys && observed.Credentials != "" {
		observed = observed.WithoutCredentials()
		if observed.Kind == provider.InSync {
			problem := step.CredentialsProblem()
			if problem == nil { // they were not required to agree
				problem = fmt.Errorf("its credentials differ: %s", seed.FieldList(outcome.Fields))
			}
			return outcome, fmt.Errorf("%w; stored credentials may have been rotated, and are not overwritten unasked: "+
				"repeat with --with-keys to replace them by the environment's, or set those of the database in the environment (%s)",
				problem, step.CredentialsOrigin())
		}
		outcome.Fields, outcome.KeysDiffer = observed.Fields, true
	}
	if err := queries.WithdrawAcceptedDrift(ctx, desired.Name); err != nil {
		return outcome, err
	}
	if observed.Kind == provider.Missing {
		if !withKeys {
			desired.Keys = nil
			desired.Bedrock = withCredentials(desired.Bedrock, nil)
		}
		id, err := seed.InsertProvider(ctx, tx, keys, desired, actor)
		outcome.ProviderID = id
		return outcome, err
	}
	if observed.Kind == provider.InSync {
		// Nothing differs that was compared; withKeys, credentials were.
		outcome.KeysReplaced = false
		return outcome, nil
	}

	if withKeys && keys.Primary() == "" && step.Row.HasEncrypted() {
		return outcome, fmt.Errorf("its stored secrets are encrypted, and would be replaced by plain text: " +
			"give the --keyset (if it is lost, a new one, which \"worker keys add\" creates)")
	}
	if !withKeys {
		stored, err := keys.OpenSettings(step.Row.ID, step.Row.Settings, step.Row.SettingsKeyID)
		switch {
		case err != nil:
			return outcome, fmt.Errorf("its stored settings would be discarded, with any credentials in them (%w); repeat with --with-keys to write the environment's", err)
		case desired.Bedrock == nil && stored != nil && !(stored.AccessKey.IsZero() && stored.AccessKeySecret.IsZero()):
			return outcome, fmt.Errorf("its stored Bedrock credentials would be discarded, since the environment's provider is not a Bedrock one; repeat with --with-keys")
		}
		desired.Bedrock = withCredentials(desired.Bedrock, stored)
	}
	settings, keyID, err := keys.SealSettings(observed.ProviderID, desired.Settings())
	if err != nil {
		return outcome, fmt.Errorf("encrypt its settings: %w", err)
	}
	err = queries.WriteProviders(ctx, func() error {
		updated, err := queries.UpdateProvider(ctx, store.UpdateProviderParams{
			ID:            observed.ProviderID,
			Type:          string(desired.Type),
			BaseUrl:       desired.BaseURL,
			Settings:      settings,
			SettingsKeyID: keyID,
		})
		if err != nil {
			return fmt.Errorf("update the row: %w", err)
		}
		if updated != 1 {
			return fmt.Errorf("update the row: it is gone")
		}
		if withKeys {
			if err := queries.DeleteProviderKeys(ctx, observed.ProviderID); err != nil {
				return fmt.Errorf("delete the stored keys: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return outcome, err
	}
	entries := []audit.Entry{{
		OccurredAt: time.Now(), Actor: actor, Action: audit.ProviderUpdated, Provider: desired.Name, ProviderID: observed.ProviderID,
		Details: audit.Details{Changes: changes(observed.Fields), EnvHash: observed.EnvHash, DBHash: observed.DBHash},
	}}
	if withKeys {
		count := len(desired.Keys)
		entries = append(entries, audit.Entry{
			OccurredAt: time.Now(), Actor: actor, Action: audit.KeysReplaced, Provider: desired.Name, ProviderID: observed.ProviderID,
			Details: audit.Details{Keys: &count},
		})
	}
	if err := stage(ctx, tx, entries); err != nil {
		return outcome, err
	}
	if withKeys {
		return outcome, seed.InsertKeys(ctx, tx, keys, observed.ProviderID, desired, actor)
	}
	return outcome, nil
}

// withCredentials returns the environment's Bedrock settings with the
// credentials that are stored, none if there are none.
func withCredentials(desired, stored *provider.Bedrock) *provider.Bedrock {
	if desired == nil {
		return nil
	}
	kept := provider.Bedrock{Region: desired.Region, Model: desired.Model, SmallFastModel: desired.SmallFastModel}
	if stored != nil {
		kept.AccessKey, kept.AccessKeySecret = stored.AccessKey, stored.AccessKeySecret
	}
	return &kept
}

// changes turns differences into what writing the environment's side changes.
func changes(fields []provider.Field) []audit.Change {
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
	case observed.Kind == provider.InSync:
		return outcome, nil
	case observed.Kind == provider.Missing:
		return outcome, fmt.Errorf("it has no row that could be kept, and the next boot seeds it again; remove its variables (%s) instead", step.Desired.Variables)
	case step.CredentialsProblem() != nil:
		return outcome, fmt.Errorf("%w; that cannot be accepted with --compat=upstream-credentials, since nothing is stored of credentials that it could be tied to; "+
			"use --take env --with-keys, or drop --compat=upstream-credentials", step.CredentialsProblem())
	case observed.Undecodable != nil:
		return outcome, fmt.Errorf("its row cannot be compared, hence not accepted: %w; repair its settings, or use --take env", observed.Undecodable)
	case step.Accepted():
		outcome.AlreadyAccepted = true
		return outcome, nil
	}
	if err := store.On(tx).AcceptDrift(ctx, store.AcceptDriftParams{
		Provider: observed.Provider, Kind: string(observed.Kind),
		EnvHash: observed.EnvHash, DbHash: observed.DBHash, AcceptedBy: actor,
	}); err != nil {
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
func acceptedValues(fields []provider.Field) []audit.Change {
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
