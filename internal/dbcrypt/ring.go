package dbcrypt

import (
	"sync/atomic"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// Ring decrypts with the configured keys, which can be replaced while it is used. A
// nil ring has no keys: it reads what is stored in plain text. Its methods may be
// called by several goroutines.
type Ring struct{ keys atomic.Pointer[Keys] }

// NewRing returns a ring of the keys.
func NewRing(keys Keys) *Ring {
	var r Ring
	r.Replace(keys)
	return &r
}

// Replace makes the keys those given.
func (r *Ring) Replace(keys Keys) { r.keys.Store(&keys) }

// Keys returns the keys in use.
func (r *Ring) Keys() Keys {
	if r == nil {
		return Keys{}
	}
	if keys := r.keys.Load(); keys != nil {
		return *keys
	}
	return Keys{}
}

// Has reports whether the ring can decrypt what was encrypted with the key; an empty
// id stands for plain text.
func (r *Ring) Has(keyID string) bool { return keyID == "" || r.Keys().find(keyID) != nil }

// Open is [Keys.Open] with the keys in use.
func (r *Ring) Open(stored secret.Text, keyID string) ([]byte, error) {
	return r.Keys().Open(stored, keyID)
}

// OpenSettings decodes settings as [provider.DecodeSettings] does, encrypted ones as
// well.
func (r *Ring) OpenSettings(stored secret.Text, keyID string) (*provider.Bedrock, error) {
	plain, err := r.Open(stored, keyID)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return provider.ParseSettings(plain)
}

// OpenRegion decodes settings as [provider.DecodeRegion] does, encrypted ones as
// well.
func (r *Ring) OpenRegion(stored secret.Text, keyID string) *provider.DecodedSettings {
	plain, err := r.Open(stored, keyID)
	if err != nil {
		return &provider.DecodedSettings{Err: err}
	}
	defer clear(plain)
	return provider.ParseRegion(plain)
}

// OpenRow puts what is decoded of a row's encrypted settings beside them and, with
// credentials set, their credentials as well, and decrypts its keys. What is stored
// in plain text is left as it is.
func (r *Ring) OpenRow(row *provider.Row, credentials bool) {
	switch {
	case row.SettingsKeyID == "" || row.Decoded != nil:
	case credentials:
		row.Decoded = provider.DecodedWithCredentials(r.OpenSettings(row.Settings, row.SettingsKeyID))
	default:
		row.Decoded = r.OpenRegion(row.Settings, row.SettingsKeyID)
	}
	if !credentials {
		return
	}
	for i := range row.Keys {
		key := &row.Keys[i]
		if key.KeyID == "" {
			continue
		}
		plain, err := r.Open(key.Key, key.KeyID)
		if err != nil {
			key.Err = err
			continue
		}
		key.Key, key.KeyID = secret.New(string(plain)), ""
		clear(plain)
	}
}
