package wal

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// history is a random history of a provider table.
type history struct {
	input []byte // read from its beginning

	stream [][]byte
	want   []committed

	table     table
	layout    []string // the columns of the table that travel, in their order
	described bool     // the stream has shown the layout
	position  pglogrepl.LSN
}

// committed is a transaction and the table after it.
type committed struct {
	transaction transaction
	table       table
}

type table map[uuid.UUID]stored

// stored is a row.
type stored struct {
	name, baseURL    string
	kind             provider.Type
	enabled, deleted bool
	settings, keyID  *string
	keyIDHidden      bool // the stream did not show it
	updatedAt        time.Time
}

// The tables of the stream, by the ids of their relations.
const (
	providersRelation = 16400 + iota
	keysRelation
	otherRelation
)

var (
	historyIDs = []uuid.UUID{{15: 1}, {15: 2}, {15: 3}, {0: 0xff}}
	// As the publication has them, and as a table has them that another program
	// made, on PostgreSQL 14.
	layouts = [][]string{
		{"id", "type", "name", "enabled", "deleted", "base_url", "settings", "settings_key_id", "updated_at"},
		{"name", "created_at", "id", "api_key", "updated_at", "settings_key_id", "settings", "base_url", "type", "deleted", "enabled", "display_name"},
	}
)

func newHistory(input []byte) *history {
	return &history{input: input, table: table{}, layout: layouts[0], position: 100}
}

// next returns the next byte of the input, and zero after its end.
func (h *history) next() byte {
	if len(h.input) == 0 {
		return 0
	}
	b := h.input[0]
	h.input = h.input[1:]
	return b
}

func (h *history) coin() bool { return h.next()%2 == 1 }

func pick[T any](h *history, list []T) T { return list[int(h.next())%len(list)] }

// text returns a text of the input that PostgreSQL can hold.
func (h *history) text() string {
	n := min(int(h.next()%32), len(h.input))
	text := strings.ReplaceAll(strings.ToValidUTF8(string(h.input[:n]), "\ufffd"), "\x00", "")
	h.input = h.input[n:]
	return text
}

func (h *history) row() stored {
	settings := pick(h, []string{
		"", `{}`, `{"_type":"bedrock","_version":1,"region":"us-east-1","access_key_secret":"q7zleak"}`,
		`{"_type":"bedrock","_version":1,"region":"eu-west-1"}`, `{"_type":"bedrock","_version":1,"region":"\u0000"}`,
		`{"_type":"bedrock","_version":2,"secret":"q7zleak"}`, `q7zleak`, "text",
	})
	if settings == "text" {
		settings = h.text()
	}
	s := stored{
		name: pick(h, []string{"a", "b", "a-name-that-is-long-enough-for-more-than-one-word"}), kind: pick(h, []provider.Type{"openai", "anthropic", "bedrock"}),
		baseURL: pick(h, []string{"", "https://h/", "https://u:q7zleak@h/?q7zleak", "text"}), enabled: h.coin(), deleted: h.coin(),
		settings:  pick(h, []*string{&settings, nil}),
		updatedAt: time.UnixMicro(int64(binary.BigEndian.Uint32([]byte{h.next(), 1, h.next(), 2})) * 1e5).UTC(),
	}
	if s.baseURL == "text" {
		s.baseURL = h.text()
	}
	if h.next()%8 == 1 {
		keyID := h.text()
		s.keyID = &keyID
	}
	return s
}

// decoded is what is to be made of the settings: nothing where the hash does not need
// them.
func (s stored) decoded() provider.DecodedSettings {
	if !s.kind.HashNeedsSettings() {
		return provider.DecodedSettings{}
	}
	settings, keyID := "", ""
	if s.settings != nil {
		settings = *s.settings
	}
	if s.keyID != nil {
		keyID = *s.keyID
	}
	if s.keyIDHidden {
		return provider.DecodedSettings{Err: provider.ErrSettingsKeyID}
	}
	var none *dbcrypt.Ring
	return *none.OpenRegion(secret.New(settings), keyID)
}

func (s stored) version(id uuid.UUID) *version {
	return &version{
		id: id, name: s.name, kind: s.kind, enabled: s.enabled, deleted: s.deleted, updatedAt: s.updatedAt, baseURL: s.baseURL, settings: s.decoded(),
	}
}

func (t table) requireMirrored(test *testing.T, m *mirror) {
	require.Len(test, m.rows, len(t))
	for id, row := range t {
		have := m.rows[id]
		require.NotNil(test, have)
		want := mirrorRow{
			Canonical: provider.CanonicalOfRow(row.kind, row.baseURL, row.decoded()),
			column:    row.kind, bedrockSettings: row.decoded().IsBedrock,
			id: id, name: row.name, enabled: row.enabled, deleted: row.deleted, updatedAt: row.updatedAt,
			baseURLKnown: true, baseURLShown: provider.DisplayURL(row.baseURL),
		}
		if err := row.decoded().Err; err != nil {
			want.unreadable = err.Error()
		} else {
			want.hashes = hasher.RowHashes(want.Canonical)
		}
		if want != *have {
			require.Equal(test, want, *have)
		}
	}
}

func (h *history) send(w writing) { h.stream = append(h.stream, w) }

func (h *history) relation(id uint32, name string, columns []string) {
	w := write(pglogrepl.MessageTypeRelation).uint32(id).text("public").text(name).byte('d').uint16(len(columns))
	for _, c := range columns {
		key := byte(0)
		if c == "id" {
			key = 1
		}
		w = w.byte(key).text(c).uint32(25).uint32(0xffffffff)
	}
	h.send(w)
}

// describe sends what PostgreSQL sends before the first change of a table.
func (h *history) describe() {
	if h.described {
		return
	}
	h.described = true
	h.send(write(pglogrepl.MessageTypeType).uint32(16390).text("public").text("ai_provider_type"))
	h.relation(providersRelation, providersTable, h.layout)
	h.relation(keysRelation, keysTable, []string{"id"})
	h.relation(otherRelation, "other", []string{"id", "name"})
}

func value(s string) *pglogrepl.TupleDataColumn {
	return &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeText, Data: []byte(s)}
}

// tuple is a row as it travels, without what does not; nil stands for the row of
// which only the key travels.
func (h *history) tuple(id uuid.UUID, row *stored, absent map[string]bool) *pglogrepl.TupleData {
	null := &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeNull}
	boolean := map[bool]string{false: "f", true: "t"}
	optional := func(s *string) *pglogrepl.TupleDataColumn {
		if s == nil {
			return null
		}
		return value(*s)
	}
	var t pglogrepl.TupleData
	for _, name := range h.layout {
		column := null
		switch {
		case name == "id":
			column = value(id.String())
		case row == nil:
		case absent[name]:
			column = &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeToast}
		case name == "type":
			column = value(string(row.kind))
		case name == "name":
			column = value(row.name)
		case name == "enabled":
			column = value(boolean[row.enabled])
		case name == "deleted":
			column = value(boolean[row.deleted])
		case name == "base_url":
			column = value(row.baseURL)
		case name == "settings":
			column = optional(row.settings)
		case name == "settings_key_id":
			column = optional(row.keyID)
		case name == "updated_at":
			column = value(row.updatedAt.Format("2006-01-02 15:04:05.999999-07"))
		case name == "api_key":
			column = value("q7zleak")
		}
		t.Columns = append(t.Columns, column)
	}
	return &t
}

func (h *history) write() {
	for xid := uint32(700); len(h.input) > 0 && xid < 750; xid++ {
		if h.next()%8 == 7 { // a message of no transaction
			h.send(write(pglogrepl.MessageTypeMessage).byte(0).lsn(h.position).text(pick(h, []string{markerPrefix, "other", ""})).counted([]byte(h.text())))
		}
		h.position += 1 + pglogrepl.LSN(h.next())
		tx := transaction{
			xid: xid, commit: h.position, end: h.position + 1 + pglogrepl.LSN(h.next()),
			committedAt: time.UnixMicro(int64(h.next())*1e12 + int64(h.next())),
		}
		at := uint64(tx.committedAt.UnixMicro() - time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
		h.send(write(pglogrepl.MessageTypeBegin).lsn(h.position).uint64(at).uint32(xid))
		if h.next()%8 == 7 {
			h.send(write(pglogrepl.MessageTypeOrigin).lsn(pglogrepl.LSN(h.next())).text(h.text()))
		}
		for range h.next() % 8 {
			h.change(&tx)
		}
		h.send(write(pglogrepl.MessageTypeCommit).byte(0).lsn(h.position).lsn(tx.end).uint64(at))
		h.position = tx.end
		after := table{}
		for id, row := range h.table {
			after[id] = row
		}
		h.want = append(h.want, committed{tx, after})
	}
}

// change makes one change, as far as the table allows it.
func (h *history) change(tx *transaction) {
	id := pick(h, historyIDs)
	row, exists := h.table[id]
	switch h.next() % 11 {
	case 0, 1, 2, 3: // insert or update
		after := h.row()
		if !exists {
			h.describe()
			h.table[id] = after
			h.send(write(pglogrepl.MessageTypeInsert).uint32(providersRelation).tuple('N', h.tuple(id, &after, nil)))
			tx.changes = append(tx.changes, change{put: after.version(id)})
			return
		}
		h.update(tx, id, row, after)
	case 4:
		if !exists {
			return
		}
		h.describe()
		w := write(pglogrepl.MessageTypeDelete).uint32(providersRelation)
		if h.coin() {
			w = w.tuple('O', h.tuple(id, &row, nil))
		} else {
			w = w.tuple('K', h.tuple(id, nil, nil))
		}
		h.send(w)
		delete(h.table, id)
		tx.changes = append(tx.changes, change{removed: id})
	case 5:
		h.describe()
		w := write(pglogrepl.MessageTypeTruncate)
		switch h.next() % 3 {
		case 0:
			clear(h.table)
			tx.changes, tx.keysTouched = append(tx.changes, change{truncate: true}), true
			h.send(w.uint32(2).byte(pglogrepl.TruncateOptionCascade).uint32(providersRelation).uint32(keysRelation))
		case 1:
			tx.keysTouched = true
			h.send(w.uint32(1).byte(0).uint32(keysRelation))
		case 2:
			h.send(w.uint32(1).byte(3).uint32(otherRelation))
		}
	case 6:
		h.describe()
		tx.keysTouched = true
		key := &pglogrepl.TupleData{Columns: []*pglogrepl.TupleDataColumn{value(id.String())}}
		switch h.next() % 3 {
		case 0:
			h.send(write(pglogrepl.MessageTypeInsert).uint32(keysRelation).tuple('N', key))
		case 1:
			h.send(write(pglogrepl.MessageTypeUpdate).uint32(keysRelation).tuple('N', key))
		case 2:
			h.send(write(pglogrepl.MessageTypeDelete).uint32(keysRelation).tuple('K', key))
		}
	case 7:
		h.describe()
		other := &pglogrepl.TupleData{Columns: []*pglogrepl.TupleDataColumn{value("1"), value(h.text())}}
		h.send(write(pglogrepl.MessageTypeInsert).uint32(otherRelation).tuple('N', other))
	case 8:
		prefix, content := pick(h, []string{markerPrefix, markerPrefix, "other"}), h.text()
		if prefix == markerPrefix && len(content) <= len(uuid.UUID{}.String()) && len(tx.markers) == 0 {
			tx.markers = []string{content}
		}
		h.send(write(pglogrepl.MessageTypeMessage).byte(1).lsn(h.position).text(prefix).counted([]byte(content)))
	case 9:
		h.send(write(pglogrepl.MessageTypeMessage).byte(1).lsn(h.position).text(markerPrefix).counted(bytes.Repeat([]byte("q7zleak"), 10)))
	case 10: // the table is altered, and described anew before its next change
		h.layout, h.described = pick(h, layouts), false
	}
}

func (h *history) update(tx *transaction, id uuid.UUID, before, after stored) {
	h.describe()
	to := id
	if h.next()%4 == 3 {
		to = pick(h, historyIDs)
		if _, taken := h.table[to]; taken {
			to = id
		}
	}
	kept := h.next() // which fields the update leaves as they were, and which of these are out of line
	absent := map[string]bool{}
	if kept&1 != 0 {
		after.name = before.name
		absent["name"] = kept&2 != 0
	}
	if kept&4 != 0 {
		after.baseURL = before.baseURL
		absent["base_url"] = kept&8 != 0
	}
	if kept&16 != 0 {
		after.settings = before.settings
		absent["settings"] = kept&32 != 0 && before.settings != nil
	}
	if kept&64 != 0 {
		after.keyID = before.keyID
		absent["settings_key_id"] = kept&128 != 0 && before.keyID != nil && *before.keyID != ""
		after.keyIDHidden = absent["settings_key_id"]
	}
	put := after.version(to)
	if absent["name"] {
		put.name, put.nameUnchanged = "", true
	}
	if absent["base_url"] {
		put.baseURL, put.baseURLUnchanged = "", true
	}
	if absent["settings"] && after.kind.HashNeedsSettings() && !before.kind.HashNeedsSettings() {
		absent["settings"] = false // the mirror knows nothing of them
	}
	if absent["settings"] && after.kind.HashNeedsSettings() && (after.keyID == nil || *after.keyID == "") {
		if before.keyID != nil && *before.keyID != "" {
			// The mirror knows of encrypted settings only that they are.
			absent["settings"] = false
		} else {
			put.settings, put.settingsUnchanged = provider.DecodedSettings{}, true
		}
	}
	c := change{put: put}
	w := write(pglogrepl.MessageTypeUpdate).uint32(providersRelation)
	switch {
	case to != id:
		c.removed = id
		w = w.tuple('K', h.tuple(id, nil, nil))
	case h.coin(): // as of a table of REPLICA IDENTITY FULL
		w = w.tuple('O', h.tuple(id, &before, nil))
	}
	h.send(w.tuple('N', h.tuple(to, &after, absent)))
	delete(h.table, id)
	h.table[to] = after
	tx.changes = append(tx.changes, c)
}
