package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// NewProvider is a row to be inserted into the provider table.
type NewProvider struct {
	ID      uuid.UUID
	Type    provider.Type // of the row, which can be another one than the environment's
	Desired provider.Desired
}

// NewKey is an API key to be inserted.
type NewKey struct {
	ID, ProviderID uuid.UUID
	Provider       string // its name, for errors
	Key            secret.Text
}

// NewRows are rows to be inserted into the provider tables: those of providers, and of API
// keys of these or of other ones.
type NewRows struct {
	Providers []NewProvider
	Keys      []NewKey
}

// AddProvider adds the row of a provider, of the type given, and the rows of its API keys.
// It returns the id of the provider's row.
func (r *NewRows) AddProvider(d provider.Desired, rowType provider.Type) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, err
	}
	r.Providers = append(r.Providers, NewProvider{ID: id, Type: rowType, Desired: d})
	return id, r.AddKeys(id, d.Name, d.Keys)
}

// AddKeys adds the rows of API keys of a provider, whose row has the id.
func (r *NewRows) AddKeys(id uuid.UUID, name string, keys []secret.Text) error {
	for _, key := range keys {
		keyID, err := uuid.NewV7()
		if err != nil {
			return err
		}
		r.Keys = append(r.Keys, NewKey{ID: keyID, ProviderID: id, Provider: name, Key: key})
	}
	return nil
}

// providerRecord is a row of the query insertProviders.
type providerRecord struct {
	ID            uuid.UUID `json:"id"`
	Type          text      `json:"type"`
	Name          text      `json:"name"`
	BaseURL       text      `json:"base_url"`
	Settings      *text     `json:"settings"`
	SettingsKeyID *text     `json:"settings_key_id"`
}

// keyRecord is a row of the query insertProviderKeys.
type keyRecord struct {
	ID          uuid.UUID `json:"id"`
	ProviderID  uuid.UUID `json:"provider_id"`
	APIKey      text      `json:"api_key"`
	APIKeyKeyID *text     `json:"api_key_key_id"`
}

// InsertProviders inserts rows. The sealer encrypts what is a secret. The queries are those
// of a transaction.
func (q *Queries) InsertProviders(ctx context.Context, sealer dbcrypt.Sealer, rows NewRows) error {
	if len(rows.Providers)+len(rows.Keys) == 0 {
		return nil
	}
	return q.WriteProviders(ctx, func() error {
		for some := range slices.Chunk(rows.Providers, chunk) {
			if err := q.insertSomeProviders(ctx, sealer, some); err != nil {
				return err
			}
		}
		for some := range slices.Chunk(rows.Keys, chunk) {
			if err := q.insertSomeKeys(ctx, sealer, some); err != nil {
				return err
			}
		}
		return nil
	})
}

func (q *Queries) insertSomeProviders(ctx context.Context, sealer dbcrypt.Sealer, providers []NewProvider) error {
	records := make([]providerRecord, len(providers))
	for i, p := range providers {
		settings, keyID, err := sealSettings(sealer, p.Desired)
		if err != nil {
			return err
		}
		records[i] = providerRecord{
			ID: p.ID, Type: text(p.Type), Name: text(p.Desired.Name), BaseURL: text(p.Desired.BaseURL),
			Settings: nullable(settings), SettingsKeyID: nullable(keyID),
		}
	}
	if err := write(ctx, records, q.insertProviders); err != nil {
		return fmt.Errorf("insert providers: %w", err)
	}
	return nil
}

func (q *Queries) insertSomeKeys(ctx context.Context, sealer dbcrypt.Sealer, keys []NewKey) error {
	records := make([]keyRecord, len(keys))
	for i, k := range keys {
		stored, keyID, err := sealKey(sealer, k.Provider, k.Key)
		if err != nil {
			return err
		}
		records[i] = keyRecord{ID: k.ID, ProviderID: k.ProviderID, APIKey: text(stored), APIKeyKeyID: nullable(keyID)}
	}
	if err := write(ctx, records, q.insertProviderKeys); err != nil {
		return fmt.Errorf("insert provider keys: %w", err)
	}
	return nil
}

// sealSettings returns the settings of a provider as they are stored, with the id of the
// key that they are encrypted with, empty for plain text.
func sealSettings(sealer dbcrypt.Sealer, d provider.Desired) (stored, keyID string, err error) {
	if stored, keyID, err = sealer.SealSettings(d.Settings(), d.Bedrock.HasCredentials()); err != nil {
		err = fmt.Errorf("the settings of provider %q cannot be stored: %w", d.Name, err)
	}
	return stored, keyID, err
}

// sealKey returns an API key of the provider of a name as it is stored, with the id of the
// key that it is encrypted with, empty for plain text.
func sealKey(sealer dbcrypt.Sealer, name string, key secret.Text) (stored, keyID string, err error) {
	if stored, keyID, err = sealer.Seal(key); err != nil {
		err = fmt.Errorf("an API key of provider %q cannot be stored: %w", name, err)
	}
	return stored, keyID, err
}

// CheckSealing returns why the secrets of a provider cannot be stored, nil if they can.
func CheckSealing(sealer dbcrypt.Sealer, d provider.Desired) error {
	if _, _, err := sealSettings(sealer, d); err != nil {
		return err
	}
	for _, key := range d.Keys {
		if _, _, err := sealKey(sealer, d.Name, key); err != nil {
			return err
		}
	}
	return nil
}

// observationRecord is a row of the query recordFirstObservations.
type observationRecord struct {
	Provider   text      `json:"provider"`
	ProviderID uuid.UUID `json:"provider_id"`
	Kind       text      `json:"kind"`
	EnvHash    text      `json:"env_hash"`
	DBHash     text      `json:"db_hash"`
}

// RecordFirstObservations records how providers are that were never observed before. No
// alert comes of it.
func (q *Queries) RecordFirstObservations(ctx context.Context, observations []drift.Observation) error {
	for some := range slices.Chunk(observations, chunk) {
		records := make([]observationRecord, len(some))
		for i, o := range some {
			records[i] = observationRecord{
				Provider: text(o.Provider), ProviderID: o.ProviderID, Kind: text(o.Kind), EnvHash: text(o.EnvHash), DBHash: text(o.DBHash),
			}
		}
		if err := write(ctx, records, q.recordFirstObservations); err != nil {
			return err
		}
	}
	return nil
}

// write runs a query that takes rows. It does not leave their JSON in memory, which can
// hold secrets.
func write[T any](ctx context.Context, rows []T, query func(context.Context, []byte) error) error {
	encoded, err := encode(rows)
	if err != nil {
		return err
	}
	defer clear(encoded)
	return query(ctx, encoded)
}

// Notify sends payloads on a channel, in their order.
func (q *Queries) Notify(ctx context.Context, channel string, payloads []string) error {
	for some := range slices.Chunk(payloads, chunk) {
		if err := q.notify(ctx, notifyParams{Channel: channel, Payloads: some}); err != nil {
			return err
		}
	}
	return nil
}
