package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/jackc/pglogrepl"
)

// errUnreadable says that a message of the stream cannot be parsed. It holds
// nothing of the message.
var errUnreadable = errors.New("a message of the replication stream cannot be parsed")

// parse parses a message of pgoutput, protocol version 1. Its error holds
// nothing of the message.
func parse(data []byte) (pglogrepl.Message, error) {
	// The library believes the lengths and counts that a message has in it: it
	// makes room for them before it looks whether they are there, reads past the
	// end, and ignores what follows.
	if !wellFormed(data) {
		return nil, errUnreadable
	}
	message, err := pglogrepl.Parse(data)
	if err != nil {
		return nil, errUnreadable
	}
	return message, nil
}

// wellFormed reports whether a message is from its first byte to its last as
// PostgreSQL documents it ("Logical Replication Message Formats").
func wellFormed(data []byte) bool {
	m := messageScanner{rest: data}
	switch pglogrepl.MessageType(m.byte()) {
	case pglogrepl.MessageTypeBegin:
		m.skip(8 + 8 + 4) // position, time, xid
	case pglogrepl.MessageTypeCommit:
		m.skip(1 + 8 + 8 + 8) // flags, two positions, time
	case pglogrepl.MessageTypeOrigin:
		m.skip(8)
		m.text()
	case pglogrepl.MessageTypeRelation:
		m.skip(4)
		m.text()  // schema
		m.text()  // name
		m.skip(1) // replica identity
		for range m.uint16() {
			m.skip(1) // flags
			m.text()
			m.skip(4 + 4) // type, modifier
			if m.short {
				break // however many it was said to have
			}
		}
	case pglogrepl.MessageTypeType:
		m.skip(4)
		m.text() // schema
		m.text() // name
	case pglogrepl.MessageTypeInsert:
		m.skip(4)
		m.tuple("N")
	case pglogrepl.MessageTypeUpdate:
		m.skip(4)
		if m.tuple("KON") != 'N' {
			m.tuple("N")
		}
	case pglogrepl.MessageTypeDelete:
		m.skip(4)
		m.tuple("KO")
	case pglogrepl.MessageTypeTruncate:
		relations := m.uint32()
		m.skip(1) // options
		m.skip(4 * uint64(relations))
	case pglogrepl.MessageTypeMessage:
		m.skip(1 + 8) // flags, position
		m.text()      // prefix
		m.skip(uint64(m.uint32()))
	default:
		return false
	}
	return !m.short && len(m.rest) == 0
}

// messageScanner scans a message from its first byte on. Once a field is not there, the
// scanner stays short, and nothing is left to scan.
type messageScanner struct {
	rest  []byte
	short bool
}

func (m *messageScanner) fail() { m.rest, m.short = nil, true }

func (m *messageScanner) take(n uint64) []byte {
	if uint64(len(m.rest)) < n {
		m.fail()
		return nil
	}
	taken := m.rest[:n]
	m.rest = m.rest[n:]
	return taken
}

func (m *messageScanner) skip(n uint64) { m.take(n) }

func (m *messageScanner) byte() byte {
	if b := m.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (m *messageScanner) uint16() uint16 {
	if b := m.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (m *messageScanner) uint32() uint32 {
	if b := m.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// text skips a text that a NUL ends.
func (m *messageScanner) text() {
	end := bytes.IndexByte(m.rest, 0)
	if end < 0 {
		m.fail()
		return
	}
	m.skip(uint64(end) + 1)
}

// tuple skips the values of a row, and returns which of the kinds of tuple it is.
func (m *messageScanner) tuple(kinds string) byte {
	kind := m.byte()
	if strings.IndexByte(kinds, kind) < 0 {
		m.fail()
		return kind
	}
	for range m.uint16() {
		switch m.byte() {
		case pglogrepl.TupleDataTypeNull, pglogrepl.TupleDataTypeToast:
		case pglogrepl.TupleDataTypeText:
			m.skip(uint64(m.uint32()))
		default: // binary values come only to those who ask for them
			m.fail()
		}
		if m.short {
			break // however many it was said to have
		}
	}
	return kind
}
