package provider

import (
	"bytes"
	"errors"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/secret"
)

// Row is a provider as the database holds it.
type Row struct {
	ID      uuid.UUID
	Name    string
	Type    Type
	BaseURL string
	Enabled bool
	Deleted bool
	// Settings count only where the type's hash needs them.
	Settings      secret.Text
	SettingsKeyID string
	// Decoded, when set, stands for Settings: the WAL source decodes them as they
	// pass by and keeps nothing else of them, and encrypted ones are decoded where
	// the row is loaded.
	Decoded *DecodedSettings
	// Hashes, when set, stand for those of the fields above: the mirror of the WAL source
	// knows the hashes also of a row whose base URL or region it does not keep.
	Hashes    *RowHashes
	UpdatedAt time.Time
	// Keys are the stored bearer keys; they are loaded only where they are
	// compared.
	Keys []StoredKey
}

// ErrAPIKeyID is why an API key that nobody tried to decrypt cannot be compared.
var ErrAPIKeyID = errors.New("an API key is encrypted with a key that this worker does not have (api_key_key_id)")

// StoredKey is a row of ai_provider_keys.
type StoredKey struct {
	ID  uuid.UUID
	Key secret.Text
	// KeyID names the key that Key is encrypted with; empty for plain text.
	KeyID string
	// Err is why Key cannot be decrypted, nil if that was not tried.
	Err error
}

// DecodedSettings returns what the canonical hash needs of the row's settings.
func (r Row) DecodedSettings() DecodedSettings {
	switch {
	case !r.Type.HashNeedsSettings():
		return DecodedSettings{}
	case r.Decoded != nil:
		return *r.Decoded
	}
	return *DecodeRegion(r.Settings, r.SettingsKeyID)
}

// Canonical returns the canonical fields of the row by itself, as
// [CanonicalOfRow] does, or why its settings cannot be decoded.
func (r Row) Canonical() (Canonical, error) {
	decoded := r.DecodedSettings()
	if decoded.Err != nil {
		return Canonical{}, decoded.Err
	}
	return CanonicalOfRow(r.Type, r.BaseURL, decoded), nil
}

// Current picks, among all rows of one name, the one that stands for the
// provider: the live one, else the one soft-deleted last, else the one of the
// highest id. It returns nil when there is none.
func Current(rows []Row) *Row {
	var best *Row
	for i := range rows {
		if best == nil || rows[i].isBefore(best) {
			best = &rows[i]
		}
	}
	return best
}

// CurrentByName returns what [Current] picks among the rows of each name.
func CurrentByName(rows []Row) map[string]*Row {
	current := make(map[string]*Row, len(rows))
	for i := range rows {
		row := &rows[i]
		if best := current[row.Name]; best == nil || row.isBefore(best) {
			current[row.Name] = row
		}
	}
	return current
}

// isBefore reports whether the row stands for the provider rather than another one of the
// name: see [Current].
func (r *Row) isBefore(other *Row) bool {
	if r.Deleted != other.Deleted {
		return other.Deleted
	}
	if !r.UpdatedAt.Equal(other.UpdatedAt) {
		return r.UpdatedAt.After(other.UpdatedAt)
	}
	return bytes.Compare(r.ID[:], other.ID[:]) > 0
}

// SettingsWithCredentials returns the row's settings as the gateway reads them. Settings
// of types that need none do not matter.
func (r Row) SettingsWithCredentials() DecodedSettings {
	switch {
	case !r.Type.HashNeedsSettings():
		return DecodedSettings{}
	case r.Decoded != nil:
		return *r.Decoded
	}
	return *DecodedWithCredentials(DecodeSettings(r.Settings, r.SettingsKeyID))
}
