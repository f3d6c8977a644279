package wal

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/store"
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

// row returns the row in the form that is compared with the environment.
func (m *mirrorRow) row(desired provider.Desired, h provider.Hasher) *provider.Row {
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
	if !m.baseURLKnown || m.regionCut {
		m.complete(row, desired, h)
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

// mirror is the provider table as of the last transaction that was handled. The
// stream shows deletes by their id alone, and updates without what did not
// change: the mirror knows the rest.
//
// It is stored in provwatch.wal_mirror. In memory are the rows that the stream
// shows changes of, which are fetched before they are applied, and not many more.
type mirror struct {
	hasher provider.Hasher
	rows   map[uuid.UUID]*mirrorRow
	byName map[string]map[uuid.UUID]bool

	// Of these ids and names everything that is stored is in rows.
	ids   map[uuid.UUID]bool
	names map[string]bool
	// byID says that rows were fetched by their ids alone: others of their names may be
	// stored, and not in rows.
	byID bool

	// What differs from the stored mirror, to be written with the next batch.
	changed   map[uuid.UUID]bool
	truncated bool // nothing that is stored counts any more

	texts int // the length of the texts of rows, in bytes
}

const (
	// maxInMemory is how many ids and names stay in memory after they are stored, with
	// their rows.
	maxInMemory = 20_000
	// maxTexts is how many bytes of the texts of rows do.
	maxTexts = 4 << 20
	// rowsAtOnce is how many rows one statement reads or writes, which holds copies of
	// them.
	rowsAtOnce = 1000
)

func newMirror(hasher provider.Hasher) *mirror {
	m := mirror{hasher: hasher}
	m.reset()
	return &m
}

// reset forgets all rows, which are to be fetched again.
func (m *mirror) reset() {
	*m = mirror{
		hasher: m.hasher,
		rows:   map[uuid.UUID]*mirrorRow{}, byName: map[string]map[uuid.UUID]bool{},
		ids: map[uuid.UUID]bool{}, names: map[string]bool{}, changed: map[uuid.UUID]bool{},
	}
}

func (m *mirror) remove(id uuid.UUID) {
	if row := m.rows[id]; row != nil {
		delete(m.byName[row.name], id)
		if len(m.byName[row.name]) == 0 {
			delete(m.byName, row.name)
		}
		delete(m.rows, id)
		m.changed[id] = true
		m.texts -= row.texts()
	}
}

func (m *mirror) put(row *mirrorRow) {
	m.remove(row.id)
	m.rows[row.id] = row
	m.texts += row.texts()
	if m.byName[row.name] == nil {
		m.byName[row.name] = map[uuid.UUID]bool{}
	}
	m.byName[row.name][row.id] = true
	m.changed[row.id], m.ids[row.id] = true, true
}

// observed returns the row that stands for a provider, nil for none.
func (m *mirror) observed(desired provider.Desired) *provider.Row {
	var rows []provider.Row
	for id := range m.byName[desired.Name] {
		rows = append(rows, *m.rows[id].row(desired, m.hasher))
	}
	return provider.Current(rows)
}

// apply applies one change, whose rows have been fetched, and returns the names
// of the providers that it changes something of; a truncation changes all.
// reread is the id of a row of which the stream and the mirror together do not
// know enough.
func (m *mirror) apply(c change) (touched []string, reread uuid.UUID) {
	if c.truncate {
		m.reset()
		m.truncated = true
		return nil, uuid.Nil
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
		Canonical: provider.Canonical{BaseURL: v.baseURL}, column: v.kind, baseURLKnown: true,
	}
	// Most changes leave it as it was, and parsing it costs more than all else.
	if before != nil && before.baseURLKnown && before.BaseURL == v.baseURL {
		row.baseURLShown = before.baseURLShown
	} else {
		row.baseURLShown = provider.DisplayURL(v.baseURL)
	}
	if v.settings.Err != nil {
		row.unreadable = v.settings.Err.Error()
	}
	if v.baseURLUnchanged {
		if before == nil {
			row.baseURLKnown, row.baseURLShown = false, ""
		} else {
			row.BaseURL, row.baseURLKnown, row.baseURLShown = before.BaseURL, before.baseURLKnown, before.baseURLShown
		}
	}
	settings := v.settings
	if v.settingsUnchanged {
		if before == nil || before.regionCut || before.lacksKey() || !before.column.HashNeedsSettings() {
			// They are not known. Those that were encrypted with another key no longer count
			// as such.
			reread = v.id
		} else {
			settings = provider.DecodedSettings{IsBedrock: before.bedrockSettings, BedrockRegion: before.BedrockRegion}
			row.unreadable = before.unreadable
		}
	}
	row.setSettings(settings)
	switch {
	case row.unreadable != "":
	case row.baseURLKnown && before != nil && before.baseURLKnown && !before.regionCut && before.unreadable == "" && before.Canonical == row.Canonical:
		row.hashes = before.hashes
	case row.baseURLKnown:
		row.hashes = m.hasher.RowHashes(row.Canonical)
	case before != nil && before.Type == row.Type && !before.regionCut && before.BedrockRegion == row.BedrockRegion && before.unreadable == "":
		row.hashes = before.hashes
	default:
		reread = v.id
	}
	if before != nil {
		same := *before
		same.updatedAt = row.updatedAt
		alone := !m.byID && len(m.byName[row.name]) == 1
		if same == *row && (alone || before.updatedAt.Equal(row.updatedAt)) {
			// As an update of columns that the hash does not need. The time matters only
			// among several rows of a name.
			before.updatedAt = row.updatedAt
			return nil, reread
		}
	}
	m.put(row)
	return touched, reread
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

// rowsOf returns the ids and names of the rows that transactions change.
func rowsOf(transactions ...*transaction) (ids []uuid.UUID, names []string) {
	for _, t := range transactions {
		for _, c := range t.changes {
			if c.removed != uuid.Nil {
				ids = append(ids, c.removed)
			}
			if c.put != nil {
				ids, names = append(ids, c.put.id), append(names, c.put.name)
			}
		}
	}
	return ids, names
}

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
	stored, err := queries.ListMirror(ctx, store.ListMirrorParams{Ids: ids, Names: names})
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
	found, err := queries.ListMirrorByID(ctx, ids)
	if err != nil {
		return err
	}
	stored := make([]store.ListMirrorRow, len(found))
	for i, s := range found {
		stored[i] = store.ListMirrorRow(s)
	}
	m.take(stored)
	m.byID = true
	return nil
}

// take puts stored rows into memory.
func (m *mirror) take(stored []store.ListMirrorRow) {
	for _, s := range stored {
		if m.ids[s.ID] {
			continue // what is in memory is newer
		}
		row := &mirrorRow{
			id: s.ID, name: s.Name, enabled: s.Enabled, deleted: s.Deleted, updatedAt: s.UpdatedAt.UTC(), unreadable: s.NotComparable,
			hashes: provider.RowHashes{Alone: s.DbHash, Anthropic: s.DbHashAnthropic},
			column: provider.Type(s.Type), baseURLShown: s.BaseUrlShown, regionCut: s.BedrockRegionCut,
		}
		row.setSettings(provider.DecodedSettings{IsBedrock: s.BedrockSettings, BedrockRegion: s.BedrockRegion})
		if s.BaseUrl != nil {
			row.BaseURL, row.baseURLKnown = *s.BaseUrl, true
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
		if err := store.FirstError(queries.PutMirror(ctx, []store.PutMirrorParams{paramsOf(chunk)}).Exec); err != nil {
			return err
		}
	}
	return nil
}

// paramsOf returns the parameters that write rows to the stored mirror.
func paramsOf(rows []*mirrorRow) store.PutMirrorParams {
	var p store.PutMirrorParams
	for _, row := range rows {
		// A base URL with more than what may be shown is not stored again, nor is a
		// region.
		region := provider.DisplayText(row.BedrockRegion)
		kept := row.baseURLKnown && row.BaseURL == row.baseURLShown
		baseURL := ""
		if kept {
			baseURL = row.BaseURL
		}
		p.Ids = append(p.Ids, row.id)
		p.Names = append(p.Names, row.name)
		p.Types = append(p.Types, string(row.column))
		p.BaseUrls = append(p.BaseUrls, baseURL)
		p.Kept = append(p.Kept, kept)
		p.BaseUrlsShown = append(p.BaseUrlsShown, row.baseURLShown)
		p.BedrockRegions = append(p.BedrockRegions, region)
		p.BedrockRegionsCut = append(p.BedrockRegionsCut, row.regionCut || region != row.BedrockRegion)
		p.NotComparables = append(p.NotComparables, row.unreadable)
		p.BedrockSettings = append(p.BedrockSettings, row.bedrockSettings)
		p.DbHashes = append(p.DbHashes, row.hashes.Alone)
		p.DbHashesAnthropic = append(p.DbHashesAnthropic, row.hashes.Anthropic)
		p.Enableds = append(p.Enableds, row.enabled)
		p.Deleteds = append(p.Deleteds, row.deleted)
		p.UpdatedAts = append(p.UpdatedAts, row.updatedAt)
	}
	return p
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
