package wal

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// mirrorRow is a row of the provider table as of the last transaction that was
// handled.
type mirrorRow struct {
	provider.Canonical // BaseURL is right only if baseURLKnown

	id               uuid.UUID
	name             string
	enabled, deleted bool
	updatedAt        time.Time
	undecodable      string // why the settings cannot be decoded, empty if they can
	hash             string // empty if undecodable

	// The base URL is not known after a restart if it has a part that can be
	// secret, which is never stored a second time, and was changed meanwhile.
	baseURLKnown bool
	baseURLShown string
}

// row returns the row in the form that is compared with the environment.
func (m *mirrorRow) row(desired provider.Desired) *provider.Row {
	row := &provider.Row{
		ID: m.id, Name: m.name, Type: m.Type, BaseURL: m.BaseURL, Enabled: m.enabled, Deleted: m.deleted, UpdatedAt: m.updatedAt,
		Decoded: &provider.DecodedSettings{BedrockRegion: m.BedrockRegion},
	}
	if m.undecodable != "" {
		row.Decoded.Err = errors.New(m.undecodable)
	}
	if !m.baseURLKnown {
		row.BaseURL = m.baseURLShown
		if m.hash == desired.Canonical().Hash() {
			row.BaseURL = desired.BaseURL
		}
	}
	return row
}

// mirror is the provider table as of the last transaction that was handled. The
// stream shows deletes by their id alone, and updates without what did not
// change: the mirror knows the rest.
type mirror struct {
	rows   map[uuid.UUID]*mirrorRow
	byName map[string]map[uuid.UUID]bool

	// What differs from the stored mirror, to be written with the next batch.
	changed map[uuid.UUID]bool
}

func newMirror() *mirror {
	return &mirror{rows: map[uuid.UUID]*mirrorRow{}, byName: map[string]map[uuid.UUID]bool{}, changed: map[uuid.UUID]bool{}}
}

func (m *mirror) remove(id uuid.UUID) {
	if row := m.rows[id]; row != nil {
		delete(m.byName[row.name], id)
		if len(m.byName[row.name]) == 0 {
			delete(m.byName, row.name)
		}
		delete(m.rows, id)
		m.changed[id] = true
	}
}

func (m *mirror) put(row *mirrorRow) {
	m.remove(row.id)
	m.rows[row.id] = row
	if m.byName[row.name] == nil {
		m.byName[row.name] = map[uuid.UUID]bool{}
	}
	m.byName[row.name][row.id] = true
	m.changed[row.id] = true
}

// observed returns the row that stands for a provider, nil for none.
func (m *mirror) observed(desired provider.Desired) *provider.Row {
	var rows []provider.Row
	for id := range m.byName[desired.Name] {
		rows = append(rows, *m.rows[id].row(desired))
	}
	return provider.Current(rows)
}

// hashOf returns the hash that the mirror knows of a row, also one whose base
// URL it does not know.
func (m *mirror) hashOf(id uuid.UUID) string {
	if row := m.rows[id]; row != nil {
		return row.hash
	}
	return ""
}

// apply applies one change and returns the names of the providers that it changes
// something of. reread is the
// id of a row of which the stream and the mirror together do not know enough.
func (m *mirror) apply(c change) (touched []string, reread uuid.UUID) {
	if c.truncate {
		for _, row := range m.rows {
			touched = append(touched, row.name)
		}
		for _, id := range slices.Collect(maps.Keys(m.rows)) {
			m.remove(id)
		}
		return touched, uuid.Nil
	}
	if c.removed != uuid.Nil {
		if row := m.rows[c.removed]; row != nil {
			touched = append(touched, row.name)
		}
		if c.put == nil || c.put.nameUnchanged || c.put.baseURLUnchanged || c.put.settingsUnchanged {
			// An id that changes takes what did not travel along.
			if c.put != nil && m.rows[c.removed] != nil {
				moved := *m.rows[c.removed]
				moved.id = c.put.id
				m.put(&moved)
			}
		}
		m.remove(c.removed)
	}
	if c.put == nil {
		return touched, uuid.Nil
	}
	v := c.put
	before := m.rows[v.id]
	if v.nameUnchanged {
		if before == nil {
			return touched, v.id
		}
		named := *v
		named.name, v = before.name, &named
	}
	if before != nil {
		touched = append(touched, before.name)
	}
	touched = append(touched, v.name)

	row := &mirrorRow{
		id: v.id, name: v.name, enabled: v.enabled, deleted: v.deleted, updatedAt: v.updatedAt,
		Canonical:    provider.Canonical{Type: v.kind, BaseURL: v.baseURL, BedrockRegion: v.settings.BedrockRegion},
		baseURLKnown: true, baseURLShown: provider.DisplayURL(v.baseURL),
	}
	if v.settings.Err != nil {
		row.undecodable = v.settings.Err.Error()
	}
	if v.baseURLUnchanged {
		if before == nil {
			row.baseURLKnown, row.baseURLShown = false, ""
		} else {
			row.BaseURL, row.baseURLKnown, row.baseURLShown = before.BaseURL, before.baseURLKnown, before.baseURLShown
		}
	}
	if v.settingsUnchanged {
		if before == nil || before.undecodable == provider.ErrSettingsKeyID.Error() {
			reread = v.id // or they are what was encrypted, and no longer count as such
		} else {
			row.BedrockRegion, row.undecodable = before.BedrockRegion, before.undecodable
		}
	}
	switch {
	case row.undecodable != "":
	case row.baseURLKnown:
		row.hash = row.Hash()
	case before != nil && before.Type == row.Type && before.BedrockRegion == row.BedrockRegion && before.undecodable == "":
		row.hash = before.hash
	default:
		reread = v.id
	}
	if before != nil {
		same := *before
		same.updatedAt = row.updatedAt
		if same == *row && len(m.byName[row.name]) == 1 {
			// As an update of columns that do not travel. The time matters only among
			// several rows of a name.
			before.updatedAt = row.updatedAt
			return nil, reread
		}
	}
	m.put(row)
	return touched, reread
}

// mirrorOf makes a mirror row of a row that was read from the table.
func mirrorOf(r store.ListAllProvidersRow) *mirrorRow {
	keyID := ""
	if r.SettingsKeyID != nil {
		keyID = *r.SettingsKeyID
	}
	decoded := provider.DecodeRegion(r.Settings, keyID)
	row := &mirrorRow{
		id: r.ID, name: r.Name, enabled: r.Enabled, deleted: r.Deleted, updatedAt: r.UpdatedAt.UTC(),
		Canonical:    provider.Canonical{Type: r.Type, BaseURL: r.BaseUrl, BedrockRegion: decoded.BedrockRegion},
		baseURLKnown: true, baseURLShown: provider.DisplayURL(r.BaseUrl),
	}
	if decoded.Err != nil {
		row.undecodable = decoded.Err.Error()
	} else {
		row.hash = row.Hash()
	}
	return row
}

// load reads the stored mirror.
func (m *mirror) load(ctx context.Context, queries *store.Queries) error {
	stored, err := queries.ListMirror(ctx)
	if err != nil {
		return err
	}
	for _, s := range stored {
		row := &mirrorRow{
			id: s.ID, name: s.Name, enabled: s.Enabled, deleted: s.Deleted, updatedAt: s.UpdatedAt.UTC(), undecodable: s.Undecodable, hash: s.DbHash,
			Canonical:    provider.Canonical{Type: provider.Type(s.Type), BedrockRegion: s.BedrockRegion},
			baseURLShown: s.BaseUrlShown,
		}
		if s.BaseUrl != nil {
			row.BaseURL, row.baseURLKnown = *s.BaseUrl, true
		} else if s.CurrentBaseUrl != nil {
			// Right if it was not changed meanwhile, which the hash tells.
			row.BaseURL = *s.CurrentBaseUrl
			row.baseURLKnown = row.Hash() == row.hash
		}
		m.put(row)
	}
	clear(m.changed)
	return nil
}

// save writes what has changed to the stored mirror.
func (m *mirror) save(ctx context.Context, queries *store.Queries) error {
	var gone []uuid.UUID
	var put []*mirrorRow
	for id := range m.changed {
		if row := m.rows[id]; row != nil {
			put = append(put, row)
		} else {
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 {
		if err := queries.DropFromMirror(ctx, gone); err != nil {
			return err
		}
	}
	var params []store.PutMirrorParams
	for chunk := range slices.Chunk(put, store.Chunk) {
		var p store.PutMirrorParams
		for _, row := range chunk {
			// A base URL with more than what may be shown is not stored again.
			kept := row.baseURLKnown && row.BaseURL == row.baseURLShown
			baseURL := ""
			if kept {
				baseURL = row.BaseURL
			}
			p.Ids = append(p.Ids, row.id)
			p.Names = append(p.Names, row.name)
			p.Types = append(p.Types, string(row.Type))
			p.BaseUrls = append(p.BaseUrls, baseURL)
			p.Kept = append(p.Kept, kept)
			p.BaseUrlsShown = append(p.BaseUrlsShown, row.baseURLShown)
			p.BedrockRegions = append(p.BedrockRegions, row.BedrockRegion)
			p.Undecodables = append(p.Undecodables, row.undecodable)
			p.DbHashes = append(p.DbHashes, row.hash)
			p.Enableds = append(p.Enableds, row.enabled)
			p.Deleteds = append(p.Deleteds, row.deleted)
			p.UpdatedAts = append(p.UpdatedAts, row.updatedAt)
		}
		params = append(params, p)
	}
	if len(params) > 0 {
		if err := store.FirstError(queries.PutMirror(ctx, params).Exec); err != nil {
			return err
		}
	}
	clear(m.changed)
	return nil
}
