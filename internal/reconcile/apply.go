package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

// TakeEnv writes the environment's fields to the provider's row: it updates a changed row,
// enables a disabled one, restores a soft-deleted one and inserts a missing one. It writes
// what differs alone: columns and members of the settings that provwatch does not know
// stay unchanged, and so do the models.
//
// Credentials are written only withKeys, since they may have been rotated in the database.
// Key rows that hold a key of the environment stay even then. A mode that compares
// credentials makes credentials that differ a drift.
//
// TakeEnv fails, with nothing written, rather than remove
//   - stored credentials without withKeys, or where the environment has none;
//   - members of the settings that provwatch does not know.
//
// It also fails where API keys would stay with a provider that uses none, and on a drift of
// credentials alone without withKeys. It fails on a secret that cannot be encrypted as the
// gateway encrypts it. The audit entries name the actor.
func TakeEnv(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired provider.Desired, withKeys bool, mode drift.CredentialMode, actor string) (Outcome, error) {
	if withKeys && !mode.Compares() {
		mode = drift.AlertCredentials
	}
	return resolution{keys: keys, desired: desired, mode: mode, side: environmentSide{withKeys}, actor: actor}.run(ctx, pool)
}

type environmentSide struct{ withKeys bool }

func (s environmentSide) take(ctx context.Context, tx pgx.Tx, step drift.Step, with encryption, actor string) (Outcome, error) {
	queries := store.On(tx)
	observed := step.Observation
	outcome := Outcome{
		Provider: step.Desired.Name, ProviderID: observed.ProviderID,
		Kind: observed.Kind, Fields: observed.Fields, KeysReplaced: s.withKeys,
	}
	if !s.withKeys && observed.CredentialsProblem() != nil {
		observed = observed.WithoutCredentials()
		if observed.Kind == drift.InSync {
			return outcome, remedy.Problem(step.Observation.CredentialsProblem(),
				"; stored credentials may have been rotated, and are not overwritten unasked: repeat with ", withKeysFlag,
				" to replace them by the environment's, or set those of the database in the environment ("+step.Desired.CredentialVariables()+")")
		}
		outcome.Fields, outcome.KeysDiffer = observed.Fields, true
	}
	if err := queries.WithdrawAcceptedDrift(ctx, step.Desired.Name); err != nil {
		return outcome, err
	}
	if observed.Kind == drift.Missing {
		desired := step.Desired
		if !s.withKeys {
			desired = desired.WithoutCredentials()
		}
		var rows store.NewRows
		id, err := rows.AddProvider(desired, step.RowType)
		if err != nil {
			return outcome, err
		}
		outcome.ProviderID = id
		return outcome, insert(ctx, tx, with.sealer, rows, actor)
	}
	if observed.Kind == drift.InSync {
		// Nothing differs that was compared; withKeys, credentials were.
		outcome.KeysReplaced = false
		return outcome, nil
	}
	if observed.Unreadable != nil {
		return outcome, unreadable(observed.ProviderID, observed.Unreadable)
	}
	w, err := s.plan(ctx, queries, step, with.keys)
	if err != nil {
		return outcome, err
	}
	outcome.Fields = w.fields
	outcome.KeysReplaced, outcome.KeysAgree = w.ofCredentials(), s.withKeys && !w.ofCredentials()
	return outcome, w.apply(ctx, tx, with.sealer, step, actor)
}

// plan returns what must be written to the row of the step.
func (s environmentSide) plan(ctx context.Context, queries *store.Queries, step drift.Step, keys *dbcrypt.Ring) (write, error) {
	var settings []byte
	if concernsSettings(step) {
		var err error
		if settings, err = keys.Open(step.Row.Settings, step.Row.SettingsKeyID); err != nil {
			return write{}, unreadable(step.Observation.ProviderID, err)
		}
		defer clear(settings)
	}
	w, err := planWrite(step, settings, s.withKeys)
	if err != nil {
		return w, err
	}
	return w, w.refuseUnusedKeys(ctx, queries, step, s.withKeys)
}

// apply writes, and stages the audit entries for what it writes.
func (w write) apply(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, step drift.Step, actor string) error {
	queries := store.On(tx)
	desired, observed := step.Desired, step.Observation
	entry := audit.Entry{OccurredAt: time.Now(), Actor: actor, Provider: desired.Name, ProviderID: observed.ProviderID}
	var entries []audit.Entry
	if w.ofRow() {
		if err := w.updateRow(ctx, queries, sealer, step); err != nil {
			return err
		}
		ofRow := slices.DeleteFunc(slices.Clone(w.fields), func(f drift.Field) bool { return f.Name == drift.APIKeysField })
		updated := entry
		updated.Action = audit.ProviderUpdated
		updated.Details = audit.Details{Changes: changes(ofRow), EnvHash: observed.EnvHash, DBHash: observed.DBHash}
		entries = append(entries, updated)
	}
	if err := w.deleteKeys(ctx, queries, observed.ProviderID); err != nil {
		return err
	}
	for _, key := range w.removed {
		deleted := entry
		deleted.Action = audit.KeyDeleted
		deleted.Details.KeyID = key.ID.String()
		if key.KeyID == "" { // decrypted
			deleted.Details.Masked = key.Key.Mask()
		}
		entries = append(entries, deleted)
	}
	if err := audit.Stage(ctx, tx, entries); err != nil {
		return err
	}
	var rows store.NewRows
	if err := rows.AddKeys(observed.ProviderID, desired.Name, w.added); err != nil {
		return err
	}
	return insert(ctx, tx, sealer, rows, actor)
}

func (w write) updateRow(ctx context.Context, queries *store.Queries, sealer dbcrypt.Sealer, step drift.Step) error {
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
		updated, err := queries.UpdateProvider(ctx, step.Observation.ProviderID, columns)
		if err == nil && updated != 1 {
			err = errors.New("the row no longer exists")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("update the row: %w", err)
	}
	return nil
}

func (w write) deleteKeys(ctx context.Context, queries *store.Queries, providerID uuid.UUID) error {
	if len(w.removed) == 0 {
		return nil
	}
	var ids []uuid.UUID
	for _, key := range w.removed {
		ids = append(ids, key.ID)
	}
	err := queries.WriteProviders(ctx, func() error {
		return queries.DeleteProviderKeys(ctx, store.DeleteProviderKeysParams{ProviderID: providerID, Ids: ids})
	})
	if err != nil {
		return fmt.Errorf("delete stored keys: %w", err)
	}
	return nil
}

// changes turns differences into what writing the environment's side changes.
func changes(fields []drift.Field) []audit.Change {
	list := make([]audit.Change, len(fields))
	for i, f := range fields {
		list[i] = audit.Change{Field: f.Name, Old: f.DB, New: f.Env}
	}
	return list
}

// insert inserts rows, and stages the audit entries for them.
func insert(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, rows store.NewRows, actor string) error {
	now := time.Now() // not after the wait for another session
	if err := store.On(tx).InsertProviders(ctx, sealer, rows); err != nil {
		return err
	}
	return audit.Stage(ctx, tx, audit.Inserted(rows, actor, now))
}
