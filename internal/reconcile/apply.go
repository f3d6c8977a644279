package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

// environmentSide writes the environment's fields to the provider's row.
//
// Its plan fails rather than remove
//   - stored credentials without withKeys, or where the environment has none;
//   - members of the settings that provwatch does not know.
//
// It also fails where API keys would stay with a provider that uses none, and on a drift of
// credentials alone without withKeys. It fails on a secret that cannot be encrypted as the
// gateway encrypts it.
type environmentSide struct{ withKeys bool }

func (s environmentSide) plan(ctx context.Context, queries *store.Queries, step drift.Step, with encryption) (change, error) {
	observed := step.Observation
	c := change{step: step, withdraws: true, outcome: Outcome{
		Provider: step.Desired.Name, ProviderID: observed.ProviderID,
		Kind: observed.Kind, Fields: observed.Fields, KeysReplaced: s.withKeys,
	}}
	if !s.withKeys && observed.CredentialsProblem() != nil {
		observed = observed.WithoutCredentials()
		if observed.Kind == drift.InSync {
			return c, remedy.Problem(step.Observation.CredentialsProblem(),
				"; stored credentials may have been rotated, and are not overwritten unasked: repeat with ", withKeysFlag,
				" to replace them by the environment's, or set those of the database in the environment ("+step.Desired.CredentialVariables()+")")
		}
		c.outcome.Fields, c.outcome.KeysDiffer = observed.Fields, true
	}
	switch {
	case observed.Kind == drift.Missing:
		if !s.withKeys {
			c.step.Desired = step.Desired.WithoutCredentials()
		}
		c.inserts, c.outcome.Fields = true, c.step.InsertedFields()
		return c, store.CheckSealing(with.sealer, c.step.Desired)
	case observed.Kind == drift.InSync:
		// Nothing differs that was compared; withKeys, credentials were.
		c.outcome.KeysReplaced = false
		return c, nil
	case observed.Unreadable != nil:
		return c, unreadable(observed.ProviderID, observed.Unreadable)
	}
	w, err := s.planRow(ctx, queries, step, with)
	if err != nil {
		return c, err
	}
	c.writes, c.outcome.Fields = &w, w.fields
	c.outcome.KeysReplaced, c.outcome.KeysAgree = w.ofCredentials(), s.withKeys && !w.ofCredentials()
	return c, nil
}

// openSettings returns the plain text of the row's settings, nil where they do not matter to
// the step. The caller clears it.
func (e encryption) openSettings(step drift.Step) ([]byte, error) {
	if !concernsSettings(step) {
		return nil, nil
	}
	settings, err := e.keys.Open(step.Row.Settings, step.Row.SettingsKeyID)
	if err != nil {
		return nil, unreadable(step.Observation.ProviderID, err)
	}
	return settings, nil
}

// planRow returns what must be written to the row of the step.
func (s environmentSide) planRow(ctx context.Context, queries *store.Queries, step drift.Step, with encryption) (write, error) {
	settings, err := with.openSettings(step)
	if err != nil {
		return write{}, err
	}
	defer clear(settings)
	w, err := planWrite(step, settings, s.withKeys)
	if err != nil {
		return w, err
	}
	if err := w.refuseUnusedKeys(ctx, queries, step, s.withKeys); err != nil {
		return w, err
	}
	return w, w.seal(with.sealer, step)
}

// seal encrypts the settings to write, and fails where they or an API key cannot be
// encrypted.
func (w *write) seal(sealer dbcrypt.Sealer, step drift.Step) error {
	if w.settings != nil {
		stored, keyID, err := sealer.SealSettings(*w.settings, w.secretSettings)
		if err != nil {
			return fmt.Errorf("its settings cannot be stored: %w", err)
		}
		w.columns.Settings = &stored
		if keyID != step.Row.SettingsKeyID {
			w.columns.SettingsKeyID = &keyID
		}
	}
	return store.CheckSealing(sealer, provider.Desired{Name: step.Desired.Name, Keys: w.added})
}

// apply writes, and stages the audit entries for what it writes.
func (w write) apply(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, step drift.Step, op operation) error {
	queries := store.On(tx)
	desired, observed := step.Desired, step.Observation
	entry := audit.Entry{OccurredAt: op.at, Actor: op.actor, Provider: desired.Name, ProviderID: observed.ProviderID}
	var entries []audit.Entry
	if w.ofRow() {
		if err := w.updateRow(ctx, queries, observed.ProviderID); err != nil {
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
	if err := op.stage(ctx, tx, entries); err != nil {
		return err
	}
	var rows store.NewRows
	if err := rows.AddKeys(observed.ProviderID, desired.Name, w.added); err != nil {
		return err
	}
	return insert(ctx, tx, sealer, rows, op)
}

func (w write) updateRow(ctx context.Context, queries *store.Queries, id uuid.UUID) error {
	err := queries.WriteProviders(ctx, func() error {
		updated, err := queries.UpdateProvider(ctx, id, w.columns)
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
func insert(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, rows store.NewRows, op operation) error {
	if err := store.On(tx).InsertProviders(ctx, sealer, rows); err != nil {
		return err
	}
	return op.stage(ctx, tx, audit.Inserted(rows, op.actor, op.at))
}
