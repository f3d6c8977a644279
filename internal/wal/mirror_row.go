package wal

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
)

// mirrorRow is a row of the provider table as of the last transaction that was
// handled.
type mirrorRow struct {
	// Canonical are the fields of the row by itself. BaseURL is right only if
	// baseURLKnown, and BedrockRegion only if not regionCut.
	provider.Canonical
	column          provider.Type // the type as the table has it
	bedrockSettings bool          // whether the settings are of "_type" bedrock

	id               uuid.UUID
	name             string
	enabled, deleted bool
	updatedAt        time.Time
	unreadable       string             // why the settings cannot be decoded or decrypted, empty if they can
	hashes           provider.RowHashes // empty if unreadable

	// The base URL is not known after a restart if it has a part that can be
	// secret, or that is too long to be stored a second time, and was changed
	// meanwhile.
	baseURLKnown bool
	baseURLShown string
	looked       bool // the provider table was looked at for the base URL
	// The region is cut after a restart if it is too long to be stored a second time.
	regionCut bool
}

// setSettings makes the settings those given, and with them the canonical type.
func (m *mirrorRow) setSettings(s provider.DecodedSettings) {
	m.bedrockSettings = s.IsBedrock
	m.Canonical = provider.CanonicalOfRow(m.column, m.BaseURL, s)
}

// lacksKey reports whether the settings cannot be decrypted for lack of the key.
func (m *mirrorRow) lacksKey() bool {
	return m.unreadable == provider.ErrSettingsKeyID.Error() || dbcrypt.SaysUnknownKey(m.unreadable)
}

// texts returns the length of what the row holds of the provider table's texts, in
// bytes.
func (m *mirrorRow) texts() int {
	return len(m.name) + len(m.BaseURL) + len(m.baseURLShown) + len(m.BedrockRegion)
}

// row returns the row in the form that is compared with the environment. It is no row that
// the database holds, which package store would decode: it joins what the stream has shown
// with what the mirror knows, and is completed for the provider that it is compared with.
func (m *mirrorRow) row(desired provider.Desired, h provider.Hasher) *provider.Row {
	row := m.incomplete()
	if !m.baseURLKnown || m.regionCut {
		m.complete(row, desired, h)
	}
	return row
}

// alone returns the row as it is shown by itself: of a base URL that is not known what may be
// shown, with the hashes of the whole.
func (m *mirrorRow) alone() *provider.Row {
	row := m.incomplete()
	if !m.baseURLKnown {
		row.BaseURL = m.baseURLShown
	}
	return row
}

// incomplete returns the row with what the mirror knows of it.
func (m *mirrorRow) incomplete() *provider.Row {
	row := &provider.Row{
		ID: m.id, Name: m.name, Type: m.column, BaseURL: m.BaseURL, Enabled: m.enabled, Deleted: m.deleted, UpdatedAt: m.updatedAt,
		Decoded: &provider.DecodedSettings{IsBedrock: m.bedrockSettings, BedrockRegion: m.BedrockRegion},
	}
	if m.unreadable != "" {
		row.Decoded.Err = errors.New(m.unreadable)
	} else {
		hashes := m.hashes
		row.Hashes = &hashes
	}
	return row
}

// complete gives a row what is not known of it: that which is desired if the hashes
// say so, else what is shown of it, and something else than what is desired.
func (m *mirrorRow) complete(row *provider.Row, desired provider.Desired, h provider.Hasher) {
	want := desired.Canonical()
	same := *row.Decoded
	baseURL := m.BaseURL
	if !m.baseURLKnown {
		baseURL = want.BaseURL
	}
	if m.regionCut {
		same.BedrockRegion = want.BedrockRegion
	}
	if h.RowHashes(provider.CanonicalOfRow(m.column, baseURL, same)) == m.hashes {
		row.BaseURL, row.Decoded = baseURL, &same
		return
	}
	if !m.baseURLKnown {
		if row.BaseURL = m.baseURLShown; row.BaseURL == want.BaseURL && m.unreadable == "" {
			row.BaseURL += "#" // which is not shown
		}
	}
	if m.regionCut && row.Decoded.BedrockRegion == want.BedrockRegion {
		row.Decoded.BedrockRegion += " "
	}
}

// takeBaseURL gives the row the base URL of a version, or that of the row before.
func (m *mirrorRow) takeBaseURL(v *version, before *mirrorRow) {
	switch {
	case v.baseURLUnchanged && before == nil:
		m.baseURLKnown = false
	case v.baseURLUnchanged:
		m.BaseURL, m.baseURLKnown, m.baseURLShown = before.BaseURL, before.baseURLKnown, before.baseURLShown
	case before != nil && before.baseURLKnown && before.BaseURL == v.baseURL:
		// Most changes leave it as it was, and parsing it costs more than all else.
		m.baseURLShown = before.baseURLShown
	default:
		m.baseURLShown = provider.DisplayURL(v.baseURL)
	}
}

// takeSettings gives the row the settings of a version, or those of the row before. It
// reports false when neither has them.
func (m *mirrorRow) takeSettings(v *version, before *mirrorRow) (known bool) {
	settings := v.settings
	if settings.Err != nil {
		m.unreadable = settings.Err.Error()
	}
	known = true
	switch {
	case !v.settingsUnchanged:
	case before == nil, before.regionCut, before.lacksKey(), !before.column.HashNeedsSettings():
		// Settings that were encrypted with another key no longer count as such.
		known = false
	default:
		settings = provider.DecodedSettings{IsBedrock: before.bedrockSettings, BedrockRegion: before.BedrockRegion}
		m.unreadable = before.unreadable
	}
	m.setSettings(settings)
	return known
}
