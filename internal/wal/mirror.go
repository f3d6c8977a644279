package wal

import (
	"github.com/google/uuid"

	"provwatch/internal/provider"
)

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

// nameBefore returns the name of the row that a change writes over, empty where it writes
// over none.
func (m *mirror) nameBefore(c change) string {
	if c.put == nil {
		return ""
	}
	if row := m.rows[c.put.id]; row != nil {
		return row.name
	}
	return ""
}

// liveName returns the name of a row, empty where it is soft-deleted or not there.
func (m *mirror) liveName(id uuid.UUID) string {
	if row := m.rows[id]; row != nil && !row.deleted {
		return row.name
	}
	return ""
}

// apply applies one change, whose rows have been fetched. It returns the names of the
// providers that it changes something of; a truncation changes all. unread is the id of
// a row of which the stream and the mirror together do not know enough.
func (m *mirror) apply(c change) (touched []string, unread uuid.UUID) {
	if c.truncate {
		m.reset()
		m.truncated = true
		return nil, uuid.Nil
	}
	if c.removed != uuid.Nil {
		touched = m.applyRemoval(c)
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
	row, known := m.rowAfter(v, before)
	if !known {
		unread = v.id
	}
	if before != nil && m.isSame(before, row) {
		before.updatedAt = row.updatedAt
		return nil, unread
	}
	m.put(row)
	return touched, unread
}

// applyRemoval removes the row that a change removes. Where its id has changed, the new
// row takes over what did not travel along.
func (m *mirror) applyRemoval(c change) (touched []string) {
	row := m.rows[c.removed]
	if row == nil {
		return nil
	}
	if c.put != nil && (c.put.nameUnchanged || c.put.baseURLUnchanged || c.put.settingsUnchanged) {
		moved := *row
		moved.id = c.put.id
		m.put(&moved)
	}
	m.remove(c.removed)
	return []string{row.name}
}

// isSame reports whether a row stays as it was, as in an update of columns that the hash
// does not need. The time matters only among several rows of a name.
func (m *mirror) isSame(before, after *mirrorRow) bool {
	same := *before
	same.updatedAt = after.updatedAt
	alone := !m.byID && len(m.byName[after.name]) == 1
	return same == *after && (alone || before.updatedAt.Equal(after.updatedAt))
}

// rowAfter returns the row of a version, whose name is known. before is the row so far,
// nil for none. It reports false when the stream and the row so far do not hold all of
// the row.
func (m *mirror) rowAfter(v *version, before *mirrorRow) (row *mirrorRow, known bool) {
	row = &mirrorRow{
		id: v.id, name: v.name, enabled: v.enabled, deleted: v.deleted, updatedAt: v.updatedAt,
		Canonical: provider.Canonical{BaseURL: v.baseURL}, column: v.kind, baseURLKnown: true,
	}
	row.takeBaseURL(v, before)
	known = row.takeSettings(v, before)
	return row, m.hash(row, before) && known
}

// hash gives a row its hashes. It reports false when neither the base URL nor the hashes
// of the row before are known.
func (m *mirror) hash(row, before *mirrorRow) (known bool) {
	if row.unreadable != "" {
		return true
	}
	comparable := before != nil && !before.regionCut && before.unreadable == ""
	switch {
	case row.baseURLKnown && comparable && before.baseURLKnown && before.Canonical == row.Canonical:
		row.hashes = before.hashes
	case row.baseURLKnown:
		row.hashes = m.hasher.RowHashes(row.Canonical)
	case comparable && before.Type == row.Type && before.BedrockRegion == row.BedrockRegion:
		row.hashes = before.hashes
	default:
		return false
	}
	return true
}
