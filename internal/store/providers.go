package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
)

// ListProviders returns all rows of the names given, soft-deleted and disabled ones too.
// The keys decrypt them. The API keys are loaded where credentials is set.
func (q *Queries) ListProviders(ctx context.Context, names []string, keys *dbcrypt.Ring, credentials bool) ([]provider.Row, error) {
	stored, err := q.listProviders(ctx, names)
	if err != nil {
		return nil, err
	}
	return q.rowsOf(ctx, stored, keys, credentials)
}

// ListProvidersAfter returns a page of all rows in the order of their ids: those after an
// id, or with [uuid.Nil] the first ones. The keys decrypt them, without credentials.
func (q *Queries) ListProvidersAfter(ctx context.Context, after uuid.UUID, most int, keys *dbcrypt.Ring) ([]provider.Row, error) {
	stored, err := q.listProvidersAfter(ctx, listProvidersAfterParams{After: after, First: after == uuid.Nil, MaxProviders: int32(most)})
	if err != nil {
		return nil, err
	}
	rows := make([]provider.Row, len(stored))
	for i, s := range stored {
		rows[i] = rowOf(listProvidersRow(s))
		keys.OpenRow(&rows[i], false)
	}
	return rows, nil
}

// rowsOf returns stored rows decrypted, with their API keys where credentials is set.
func (q *Queries) rowsOf(ctx context.Context, stored []listProvidersRow, keys *dbcrypt.Ring, credentials bool) ([]provider.Row, error) {
	rows := make([]provider.Row, len(stored))
	ids := make([]uuid.UUID, len(stored))
	for i, s := range stored {
		rows[i], ids[i] = rowOf(s), s.ID
	}
	if credentials {
		keysOf, err := q.keysOf(ctx, ids)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			rows[i].Keys = keysOf[rows[i].ID]
		}
	}
	for i := range rows {
		keys.OpenRow(&rows[i], credentials)
	}
	return rows, nil
}

// rowOf returns a stored row unchanged, without its API keys.
func rowOf(s listProvidersRow) provider.Row {
	return provider.Row{
		ID: s.ID, Name: s.Name, Type: s.Type, BaseURL: s.BaseUrl, Enabled: s.Enabled, Deleted: s.Deleted,
		Settings: s.Settings, SettingsKeyID: deref(s.SettingsKeyID), UpdatedAt: s.UpdatedAt,
	}
}

// keysOf returns the stored API keys of providers unchanged, by the provider's id.
func (q *Queries) keysOf(ctx context.Context, providers []uuid.UUID) (map[uuid.UUID][]provider.StoredKey, error) {
	stored, err := q.listProviderKeys(ctx, providers)
	if err != nil {
		return nil, fmt.Errorf("load provider keys: %w", err)
	}
	keys := make(map[uuid.UUID][]provider.StoredKey, len(providers))
	for _, s := range stored {
		keys[s.ProviderID] = append(keys[s.ProviderID], provider.StoredKey{ID: s.ID, Key: s.ApiKey, KeyID: deref(s.ApiKeyKeyID)})
	}
	return keys, nil
}

// CountKeys returns how many API keys are stored for a provider.
func (q *Queries) CountKeys(ctx context.Context, id uuid.UUID) (int, error) {
	stored, err := q.listProviderKeys(ctx, []uuid.UUID{id})
	return len(stored), err
}

// ListServed returns the live, enabled rows, by name. The settings that matter are
// decrypted, with their credentials.
func (q *Queries) ListServed(ctx context.Context, keys *dbcrypt.Ring) ([]provider.ServedRow, error) {
	stored, err := q.listServed(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]provider.ServedRow, len(stored))
	for i, s := range stored {
		row := provider.Row{ID: s.ID, Name: s.Name, Type: s.Type, BaseURL: s.BaseUrl, Enabled: true}
		if row.Type.HashNeedsSettings() {
			row.Settings, row.SettingsKeyID = s.Settings, deref(s.SettingsKeyID)
			keys.OpenRow(&row, true)
		}
		rows[i] = provider.ServedRow{Row: row, HasKeys: s.HasKeys}
	}
	return rows, nil
}
