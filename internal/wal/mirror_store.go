package wal

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// fetch brings into memory all that is stored of the rows of the ids, of all rows
// that share a name with one of them, and of the rows of the names.
func (m *mirror) fetch(ctx context.Context, queries *store.Queries, ids []uuid.UUID, names []string) error {
	if m.truncated {
		return nil
	}
	ids = slices.DeleteFunc(ids, func(id uuid.UUID) bool { return m.ids[id] })
	names = slices.DeleteFunc(names, func(name string) bool { return m.names[name] })
	if len(ids)+len(names) == 0 {
		return nil
	}
	stored, err := queries.ListMirror(ctx, ids, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		m.names[name] = true
	}
	for _, s := range stored {
		m.names[s.Name] = true
	}
	m.take(stored)
	for _, id := range ids {
		m.ids[id] = true
	}
	return nil
}

// fetchAll is fetch together with the base URLs that are not stored, from the provider
// table. A transaction that can last must not do it: it would keep a lock on the table,
// for which the gateway's upgrade would wait, and all that reads the table behind it.
func (m *mirror) fetchAll(ctx context.Context, queries *store.Queries, ids []uuid.UUID, names []string) error {
	if err := m.fetch(ctx, queries, ids, names); err != nil {
		return err
	}
	var unknown []uuid.UUID
	for id, row := range m.rows {
		if !row.baseURLKnown && !m.changed[id] && !row.looked {
			row.looked = true
			unknown = append(unknown, id)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	found, err := queries.ListBaseURLs(ctx, unknown)
	if err != nil {
		return err
	}
	for _, current := range found {
		// Right if it was not changed meanwhile, which the hash tells.
		row := *m.rows[current.ID]
		row.BaseURL = current.BaseUrl
		if row.hashes.Alone == m.hasher.Hash(row.Canonical) {
			m.rows[current.ID].BaseURL, m.rows[current.ID].baseURLKnown = current.BaseUrl, true
			m.texts += len(current.BaseUrl)
		}
	}
	return nil
}

// fetchByID brings into memory what is stored of the rows of the ids, which is enough
// to apply changes of them.
func (m *mirror) fetchByID(ctx context.Context, queries *store.Queries, ids []uuid.UUID) error {
	stored, err := queries.ListMirrorByID(ctx, ids)
	if err != nil {
		return err
	}
	m.take(stored)
	m.byID = true
	return nil
}

// take puts stored rows into memory.
func (m *mirror) take(stored []store.MirrorRow) {
	for _, s := range stored {
		if m.ids[s.ID] {
			continue // what is in memory is newer
		}
		row := &mirrorRow{
			id: s.ID, name: s.Name, enabled: s.Enabled, deleted: s.Deleted, updatedAt: s.UpdatedAt, unreadable: s.NotComparable,
			hashes: s.Hashes,
			column: s.Type, baseURLShown: s.BaseURLShown, regionCut: s.BedrockRegionCut,
		}
		row.setSettings(provider.DecodedSettings{IsBedrock: s.BedrockSettings, BedrockRegion: s.BedrockRegion})
		if s.BaseURL != nil {
			row.BaseURL, row.baseURLKnown = *s.BaseURL, true
		}
		m.put(row)
		delete(m.changed, row.id)
	}
}

// save writes what has changed to the stored mirror.
func (m *mirror) save(ctx context.Context, queries *store.Queries) error {
	if m.truncated {
		if err := queries.ClearMirror(ctx); err != nil {
			return err
		}
	}
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
	for chunk := range slices.Chunk(put, rowsAtOnce) {
		rows := make([]store.MirrorRow, len(chunk))
		for i, row := range chunk {
			rows[i] = row.stored()
		}
		if err := queries.PutMirror(ctx, rows); err != nil {
			return err
		}
	}
	return nil
}

// stored returns the row as it is stored. A base URL with more than what may be shown is
// not stored again, nor is a region.
func (m *mirrorRow) stored() store.MirrorRow {
	region := provider.DisplayText(m.BedrockRegion)
	row := store.MirrorRow{
		ID: m.id, Name: m.name, Type: m.column, BaseURLShown: m.baseURLShown,
		BedrockRegion: region, BedrockRegionCut: m.regionCut || region != m.BedrockRegion, BedrockSettings: m.bedrockSettings,
		NotComparable: m.unreadable, Hashes: m.hashes, Enabled: m.enabled, Deleted: m.deleted, UpdatedAt: m.updatedAt,
	}
	if m.baseURLKnown && m.BaseURL == m.baseURLShown {
		row.BaseURL = &m.BaseURL
	}
	return row
}

// saved is called when what [mirror.save] has written is committed.
func (m *mirror) saved() {
	clear(m.changed)
	m.truncated = false
	if len(m.ids)+len(m.names) > maxInMemory || m.texts > maxTexts {
		m.reset()
	}
}

// differs reports whether there is anything to save.
func (m *mirror) differs() bool { return len(m.changed) > 0 || m.truncated }

// copyTable makes the stored mirror a copy of the provider table.
func (m *mirror) copyTable(ctx context.Context, queries *store.Queries, keys *dbcrypt.Ring) error {
	m.truncated = true
	for after := uuid.Nil; ; {
		rows, err := queries.ListProvidersAfter(ctx, after, rowsAtOnce, keys)
		if err != nil {
			return err
		}
		for _, row := range rows {
			m.put(m.rowOf(row))
		}
		if err := m.save(ctx, queries); err != nil {
			return err
		}
		m.reset()
		if len(rows) < rowsAtOnce {
			return nil
		}
		after = rows[len(rows)-1].ID
	}
}

// rowOf makes a mirror row of a row that was read from the table.
func (m *mirror) rowOf(r provider.Row) *mirrorRow {
	decoded := r.DecodedSettings()
	row := &mirrorRow{
		id: r.ID, name: r.Name, enabled: r.Enabled, deleted: r.Deleted, updatedAt: r.UpdatedAt.UTC(),
		Canonical: provider.Canonical{BaseURL: r.BaseURL}, column: r.Type,
		baseURLKnown: true, baseURLShown: provider.DisplayURL(r.BaseURL),
	}
	row.setSettings(decoded)
	if decoded.Err != nil {
		row.unreadable = decoded.Err.Error()
	} else {
		row.hashes = m.hasher.RowHashes(row.Canonical)
	}
	return row
}
