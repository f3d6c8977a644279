package wal

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// The tables that are read.
const (
	providersTable = "ai_providers"
	keysTable      = "ai_provider_keys"
)

// transaction is one committed transaction, reduced to what matters here. A large one
// comes in parts, so that no more than [maxPart] of it is in memory.
type transaction struct {
	commit      pglogrepl.LSN // where its commit record begins
	end         pglogrepl.LSN // and ends, which is confirmed once it is handled; 0 where more follows
	more        bool          // it is a part, and another part of the same transaction follows
	xid         uint32
	committedAt time.Time
	changes     []change
	keysTouched bool
	markers     []string // the token of our own message, if it has one
}

// change is one change of the provider table.
type change struct {
	truncate bool
	// removed is the id of a row that is gone, uuid.Nil for none.
	removed uuid.UUID
	// put is the new version of a row, nil for none.
	put *version
}

// changeSize is what a change takes in memory beside its texts, in bytes, rounded up.
const changeSize = 256

// size returns what the change takes in memory, in bytes.
func (c change) size() int {
	if c.put == nil {
		return changeSize
	}
	return changeSize + len(c.put.name) + len(c.put.baseURL) + len(c.put.settings.BedrockRegion)
}

// size returns what the changes take in memory, in bytes.
func (t *transaction) size() (size int) {
	for _, c := range t.changes {
		size += c.size()
	}
	return size
}

// version is a row as the stream shows it. A field that was not changed and is
// stored out of line (TOAST) does not travel: it is as it was.
type version struct {
	id               uuid.UUID
	kind             provider.Type
	enabled, deleted bool
	updatedAt        time.Time

	name          string
	nameUnchanged bool

	baseURL          string
	baseURLUnchanged bool

	// The settings are decoded as soon as they arrive, since they can hold a
	// secret, and only this is kept.
	settings          provider.DecodedSettings
	settingsUnchanged bool
}

// errSchema says that a table of the stream lacks what is needed of it.
var errSchema = errors.New("the provider table in the WAL has an unexpected form")

// markerPrefix distinguishes our own WAL messages from those of other programs.
const markerPrefix = "provwatch"

// maxMarker is the length of the tokens of our own messages, in bytes: that of a
// uuid.
const maxMarker = 36

// maxPart is from which size on the changes of a transaction are handed on before its
// end, in bytes.
const maxPart = 512 << 10

// decoder assembles transactions from the messages of pgoutput. Its zero value
// is ready for the start of a stream.
type decoder struct {
	relations map[uint32]*relation
	keys      *dbcrypt.Ring // nil for none
	current   *transaction  // the one that is being read, or the rest of it, nil between two
	held      int           // the size of current, in bytes
	failed    error
}

type relation struct {
	name    string
	columns []string
	keys    *dbcrypt.Ring
}

// inTransaction reports whether a transaction has begun and not yet ended.
func (d *decoder) inTransaction() bool { return d.current != nil }

// decode takes one message, and returns the transaction that it completes, if any,
// or the next part of a large one. It never keeps the message. After an error it returns that error alone: a
// transaction that lacks a change must not be taken for a whole one.
func (d *decoder) decode(data []byte) (*transaction, error) {
	if d.failed != nil {
		return nil, d.failed
	}
	done, err := d.next(data)
	if err != nil {
		d.failed, d.current = err, nil
	}
	return done, err
}

func (d *decoder) next(data []byte) (*transaction, error) {
	message, err := parse(data)
	if err != nil {
		return nil, err
	}
	switch m := message.(type) {
	case *pglogrepl.RelationMessage:
		if d.relations == nil {
			d.relations = map[uint32]*relation{}
		}
		r := &relation{name: m.RelationName, keys: d.keys}
		for _, c := range m.Columns {
			r.columns = append(r.columns, c.Name)
		}
		d.relations[m.RelationID] = r
		return nil, nil
	case *pglogrepl.BeginMessage:
		if d.current != nil {
			return nil, errors.New("the replication stream begins a transaction inside another")
		}
		d.begin(transaction{commit: m.FinalLSN, xid: m.Xid, committedAt: m.CommitTime})
		return nil, nil
	case *pglogrepl.TypeMessage, *pglogrepl.OriginMessage:
		return nil, nil
	case *pglogrepl.LogicalDecodingMessage:
		// Any role can write messages, as many and as long as it likes; ours is the
		// only one of its transaction.
		if d.current != nil && m.Prefix == markerPrefix && len(m.Content) <= maxMarker && len(d.current.markers) == 0 {
			d.current.markers = []string{string(m.Content)}
		}
		return nil, nil
	}
	if d.current == nil {
		return nil, errors.New("the replication stream has a change outside a transaction")
	}
	switch m := message.(type) {
	case *pglogrepl.CommitMessage:
		if m.CommitLSN != d.current.commit || m.TransactionEndLSN <= m.CommitLSN {
			return nil, errors.New("the replication stream commits another transaction than it began")
		}
		done := d.current
		done.end = m.TransactionEndLSN
		d.current = nil
		return done, nil
	case *pglogrepl.InsertMessage:
		return d.row(m.RelationID, nil, m.Tuple)
	case *pglogrepl.UpdateMessage:
		return d.row(m.RelationID, m.OldTuple, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		return d.row(m.RelationID, m.OldTuple, nil)
	case *pglogrepl.TruncateMessage:
		for _, id := range m.RelationIDs {
			switch r := d.relations[id]; {
			case r == nil:
				return nil, errors.New("the replication stream truncates a table that it did not describe")
			case r.name == providersTable:
				d.add(change{truncate: true})
			case r.name == keysTable:
				d.current.keysTouched = true
			}
		}
		return d.part(), nil
	default:
		return nil, fmt.Errorf("the replication stream has a message of unexpected type %T", message)
	}
}

// begin makes t the transaction that is being read.
func (d *decoder) begin(t transaction) { d.current, d.held = &t, 0 }

func (d *decoder) add(c change) {
	d.current.changes = append(d.current.changes, c)
	d.held += c.size()
}

// part returns what has been read of a transaction that becomes too large, nil for
// one that does not.
func (d *decoder) part() *transaction {
	if d.held < maxPart {
		return nil
	}
	part := d.current
	part.more = true
	d.begin(transaction{commit: part.commit, xid: part.xid, committedAt: part.committedAt})
	return part
}

// row takes a change of one row: of the old version the stream has the primary
// key at most. It returns what [decoder.decode] does.
func (d *decoder) row(relationID uint32, before, after *pglogrepl.TupleData) (*transaction, error) {
	r := d.relations[relationID]
	if r == nil {
		return nil, errors.New("the replication stream changes a table that it did not describe")
	}
	if r.name == keysTable {
		d.current.keysTouched = true
		return nil, nil
	}
	if r.name != providersTable {
		return nil, nil
	}
	var c change
	if before != nil {
		id, err := r.id(before)
		if err != nil {
			return nil, err
		}
		c.removed = id
	}
	if after != nil {
		v, err := r.version(after)
		if err != nil {
			return nil, err
		}
		c.put = v
		if c.removed == v.id {
			c.removed = uuid.Nil
		}
	}
	d.add(c)
	return d.part(), nil
}

func (r *relation) column(tuple *pglogrepl.TupleData, name string) (*pglogrepl.TupleDataColumn, error) {
	i := slices.Index(r.columns, name)
	if i < 0 || i >= len(tuple.Columns) {
		return nil, fmt.Errorf("%w: it has no column %s", errSchema, name)
	}
	return tuple.Columns[i], nil
}

func (r *relation) id(tuple *pglogrepl.TupleData) (uuid.UUID, error) {
	c, err := r.column(tuple, "id")
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.ParseBytes(c.Data)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: an id is not a uuid", errSchema)
	}
	return id, nil
}

func (r *relation) version(tuple *pglogrepl.TupleData) (*version, error) {
	var v version
	var err error
	if v.id, err = r.id(tuple); err != nil {
		return nil, err
	}
	text := func(name string) (value string, kind uint8) {
		c, failed := r.column(tuple, name)
		if failed != nil {
			err = failed
			return "", 0
		}
		return string(c.Data), c.DataType
	}
	const unchanged = pglogrepl.TupleDataTypeToast
	required := func(name string) (value string, isUnchanged bool) {
		value, kind := text(name)
		if kind == pglogrepl.TupleDataTypeNull {
			err = fmt.Errorf("%w: a %s is null", errSchema, name)
		}
		return value, kind == unchanged
	}
	truth := func(name string) bool {
		value, _ := text(name)
		if err == nil && value != "t" && value != "f" {
			err = fmt.Errorf("%w: %s is not true or false", errSchema, name)
		}
		return value == "t"
	}
	v.name, v.nameUnchanged = required("name")
	kind, _ := required("type")
	v.kind = provider.Type(kind)
	v.enabled, v.deleted = truth("enabled"), truth("deleted")
	// In the ISO form that the session asks for; no time and infinite ones count as
	// the epoch, as in a query.
	updatedAt, _ := text("updated_at")
	v.updatedAt = time.Unix(0, 0).UTC()
	if at, err := time.Parse("2006-01-02 15:04:05.999999-07", updatedAt); err == nil {
		v.updatedAt = at.UTC()
	}
	v.baseURL, v.baseURLUnchanged = required("base_url")
	settings, state := text("settings")
	v.settingsUnchanged = state == unchanged
	keyID, state := text("settings_key_id")
	switch {
	case !v.kind.HashNeedsSettings():
		v.settingsUnchanged = false // whatever they are
	case state == unchanged: // only what is long does not travel, and no key id of ours is
		v.settings, v.settingsUnchanged = provider.DecodedSettings{Err: provider.ErrSettingsKeyID}, false
	case !v.settingsUnchanged || !r.keys.Has(keyID):
		v.settings, v.settingsUnchanged = *r.keys.OpenRegion(secret.New(settings), keyID), false
	}
	if err != nil {
		return nil, err
	}
	return &v, nil
}
