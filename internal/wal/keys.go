package wal

import (
	"maps"

	"github.com/google/uuid"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// Keys decodes settings that are stored encrypted.
type Keys interface {
	// OpenRegion decodes the settings of the row with the id.
	OpenRegion(id uuid.UUID, stored secret.Text, keyID string) *provider.DecodedSettings
	// Has reports whether it can decrypt what was encrypted with the key; an empty
	// id stands for plain text.
	Has(keyID string) bool
}

// noKeys are the [Keys] of whoever has none.
type noKeys struct{}

func (noKeys) OpenRegion(_ uuid.UUID, stored secret.Text, keyID string) *provider.DecodedSettings {
	return provider.DecodeRegion(stored, keyID)
}

func (noKeys) Has(keyID string) bool { return keyID == "" }

// orNone makes absent keys usable ones.
func orNone(keys Keys) Keys {
	if keys == nil {
		return noKeys{}
	}
	return keys
}

// redecode makes the mirror agree with what a look has seen when nothing but
// whether the row's settings can be decoded differs, as after a change of the
// keyset. It reports whether that was so.
func (m *mirror) redecode(mirrored, seen provider.Observation) bool {
	row := m.rows[seen.ProviderID]
	if row == nil || mirrored.ProviderID != seen.ProviderID || (mirrored.Undecodable == nil) == (seen.Undecodable == nil) ||
		row.column != seen.DBType || !sameBesideSettings(mirrored.Fields, seen.Fields) {
		return false
	}
	anew := *row
	anew.setSettings(seen.DBSettings)
	anew.hashes, anew.undecodable = seen.DBHashes, ""
	if seen.Undecodable != nil {
		anew.undecodable = seen.Undecodable.Error()
	}
	m.put(&anew)
	return true
}

func sameBesideSettings(a, b []provider.Field) bool {
	others := func(fields []provider.Field) map[provider.Field]bool {
		set := map[provider.Field]bool{}
		for _, f := range fields {
			if !f.OfSettings() {
				set[f] = true
			}
		}
		return set
	}
	return maps.Equal(others(a), others(b))
}
