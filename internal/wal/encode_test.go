package wal

import (
	"encoding/binary"

	"github.com/jackc/pglogrepl"
)

// writing builds messages of pgoutput as PostgreSQL documents them.
type writing []byte

func write(kind pglogrepl.MessageType) writing { return writing{byte(kind)} }

func (w writing) byte(b byte) writing         { return append(w, b) }
func (w writing) uint16(n int) writing        { return binary.BigEndian.AppendUint16(w, uint16(n)) }
func (w writing) uint32(n uint32) writing     { return binary.BigEndian.AppendUint32(w, n) }
func (w writing) uint64(n uint64) writing     { return binary.BigEndian.AppendUint64(w, n) }
func (w writing) text(s string) writing       { return append(append(w, s...), 0) }
func (w writing) counted(b []byte) writing    { return append(w.uint32(uint32(len(b))), b...) }
func (w writing) lsn(l pglogrepl.LSN) writing { return w.uint64(uint64(l)) }

func (w writing) tuple(kind byte, t *pglogrepl.TupleData) writing {
	w = w.byte(kind).uint16(len(t.Columns))
	for _, c := range t.Columns {
		w = w.byte(c.DataType)
		if c.DataType == pglogrepl.TupleDataTypeText {
			w = w.counted(c.Data)
		}
	}
	return w
}

// again writes a message that was parsed from data. What parsing loses, it takes
// from there: the precise time, and flags that have no meaning yet.
func again(message pglogrepl.Message, data []byte) []byte {
	w := write(message.Type())
	switch m := message.(type) {
	case *pglogrepl.BeginMessage:
		return append(w.lsn(m.FinalLSN), data[9:17]...).uint32(m.Xid)
	case *pglogrepl.CommitMessage:
		return append(w.byte(m.Flags).lsn(m.CommitLSN).lsn(m.TransactionEndLSN), data[18:26]...)
	case *pglogrepl.OriginMessage:
		return w.lsn(m.CommitLSN).text(m.Name)
	case *pglogrepl.RelationMessage:
		w = w.uint32(m.RelationID).text(m.Namespace).text(m.RelationName).byte(m.ReplicaIdentity).uint16(len(m.Columns))
		for _, c := range m.Columns {
			w = w.byte(c.Flags).text(c.Name).uint32(c.DataType).uint32(uint32(c.TypeModifier))
		}
		return w
	case *pglogrepl.TypeMessage:
		return w.uint32(m.DataType).text(m.Namespace).text(m.Name)
	case *pglogrepl.InsertMessage:
		return w.uint32(m.RelationID).tuple('N', m.Tuple)
	case *pglogrepl.UpdateMessage:
		w = w.uint32(m.RelationID)
		if m.OldTuple != nil {
			w = w.tuple(m.OldTupleType, m.OldTuple)
		}
		return w.tuple('N', m.NewTuple)
	case *pglogrepl.DeleteMessage:
		return w.uint32(m.RelationID).tuple(m.OldTupleType, m.OldTuple)
	case *pglogrepl.TruncateMessage:
		w = w.uint32(uint32(len(m.RelationIDs))).byte(m.Option)
		for _, id := range m.RelationIDs {
			w = w.uint32(id)
		}
		return w
	case *pglogrepl.LogicalDecodingMessage:
		return w.byte(data[1]).lsn(m.LSN).text(m.Prefix).counted(m.Content)
	default:
		return nil
	}
}

// frames is the inverse of framed, and makes messages of anything else as well.
func frames(stream []byte) (messages [][]byte) {
	for len(stream) > 0 {
		length, size := binary.Uvarint(stream)
		stream = stream[max(size, 1):]
		length = min(length, uint64(len(stream)))
		messages = append(messages, stream[:length])
		stream = stream[length:]
	}
	return messages
}
