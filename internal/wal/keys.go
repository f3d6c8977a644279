package wal

import (
	"maps"

	"provwatch/internal/provider"
)

// redecode makes the mirror agree with what a look has seen when nothing but
// whether the row's settings can be decoded differs, as after a change of the
// keys. It reports whether that was so.
func (m *mirror) redecode(mirrored, seen provider.Observation) bool {
	row := m.rows[seen.ProviderID]
	if row == nil || mirrored.ProviderID != seen.ProviderID || (mirrored.Unreadable == nil) == (seen.Unreadable == nil) ||
		row.column != seen.DBType || !sameBesideSettings(mirrored.Fields, seen.Fields) {
		return false
	}
	anew := *row
	anew.setSettings(seen.DBSettings)
	anew.hashes, anew.unreadable = seen.DBHashes, ""
	if seen.Unreadable != nil {
		anew.unreadable = seen.Unreadable.Error()
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
