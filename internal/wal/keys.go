package wal

import (
	"maps"

	"provwatch/internal/drift"
)

// redecode makes the mirror agree with what a look has seen when nothing but
// whether the row's settings can be decoded differs, as after a change of the
// keys. It reports whether that was so.
func (m *mirror) redecode(mirrored, seen drift.Observation) bool {
	row := m.rows[seen.ProviderID]
	if row == nil || mirrored.ProviderID != seen.ProviderID || (mirrored.Unreadable == nil) == (seen.Unreadable == nil) ||
		row.column != seen.DBType || !row.sameBesideSettings(mirrored, seen) {
		return false
	}
	anew := *row
	anew.setSettings(seen.DBSettings)
	// Also of a row whose base URL is unknown: the hashes show whether it is the desired one.
	anew.hashes, anew.unreadable, anew.regionCut = seen.DBHashes, "", false
	if seen.Unreadable != nil {
		anew.unreadable = seen.Unreadable.Error()
	}
	m.put(&anew)
	return true
}

// sameBesideSettings reports whether two observations of the row, of which the settings
// can be decoded in one, agree as far as both can.
func (m *mirrorRow) sameBesideSettings(mirrored, seen drift.Observation) bool {
	// That a row is disabled shows in the kind alone, where it can be compared.
	if seen.Unreadable == nil && m.enabled == (seen.Kind == drift.Disabled) {
		return false
	}
	others := func(fields []drift.Field) map[drift.Field]bool {
		set := map[drift.Field]bool{}
		for _, f := range fields {
			if !f.OfSettings() && f.Name != drift.EnabledField && (m.baseURLKnown || f.Name != drift.BaseURLField) {
				set[f] = true
			}
		}
		return set
	}
	return maps.Equal(others(mirrored.Fields), others(seen.Fields))
}
