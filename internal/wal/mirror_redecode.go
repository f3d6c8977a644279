package wal

import "provwatch/internal/drift"

// redecode makes the mirror agree with what a look has seen when nothing but
// whether the row's settings can be decoded differs, as after a change of the
// keys. It reports whether that was so.
func (m *mirror) redecode(mirrored, seen drift.Observation) bool {
	row := m.rows[seen.ProviderID]
	// That a row is disabled shows in the kind of a look that could decode it.
	if row == nil || mirrored.ProviderID != seen.ProviderID || (mirrored.Unreadable == nil) == (seen.Unreadable == nil) ||
		row.column != seen.DBType || seen.Unreadable == nil && row.enabled == (seen.Kind == drift.Disabled) ||
		!mirrored.SameBesideSettings(seen, row.baseURLKnown) {
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
