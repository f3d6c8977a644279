package verify

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// chunk is how many providers and rows are read and recorded at a time. Neither memory nor the
// time that a row of ours is locked grows with their number.
const chunk = 2000

// rowComparison is a row by itself as observed, beside what is recorded of it.
type rowComparison struct {
	observation drift.Observation
	recorded    drift.RecordedRow
}

// compareRows returns the observations of the rows that the environment does not name, and of
// rows that are recorded as such, by name. A row that is no longer unmanaged comes first: another one
// can have its name.
func compareRows(e *environment, h provider.Hasher, seen []store.RowSighting) (rows []rowComparison) {
	for _, s := range seen {
		if s.Row == nil {
			rows = append(rows, rowComparison{drift.GoneRow(s.ID), s.Recorded})
			continue
		}
		named := e.mentions(s.Row.Name)
		if named && s.Recorded.State == nil && s.Recorded.Pending == nil && s.Recorded.Accepted == nil {
			continue
		}
		rows = append(rows, rowComparison{drift.ObserveRow(h, s.Row, named), s.Recorded})
	}
	slices.SortFunc(rows, func(a, b rowComparison) int {
		one, other := a.observation, b.observation
		return cmp.Or(compareEnds(one, other), cmp.Compare(one.Provider, other.Provider), bytes.Compare(one.ProviderID[:], other.ProviderID[:]))
	})
	return rows
}

// compareEnds orders rows: an unmanaged one comes last.
func compareEnds(a, b drift.Observation) int {
	switch one, other := a.Kind == drift.Unmanaged, b.Kind == drift.Unmanaged; {
	case one == other:
		return 0
	case one:
		return 1
	default:
		return -1
	}
}

// suspects are what a verification reads: the providers named, and rows by their ids.
type suspects struct {
	names []string // sorted
	rows  []uuid.UUID
}

func (s suspects) count() int { return len(s.names) + len(s.rows) }

// chunks returns the suspects in parts of a bounded size. The rows come first: until a
// provider is recorded with another row, the former one is known to have been its own.
func (s suspects) chunks() (parts []suspects) {
	for rows := range slices.Chunk(s.rows, chunk) {
		parts = append(parts, suspects{rows: rows})
	}
	for names := range slices.Chunk(s.names, chunk) {
		parts = append(parts, suspects{names: names})
	}
	return parts
}

// subjects returns the suspects in the order of their parts.
func (s suspects) subjects() []drift.Subject {
	list := make([]drift.Subject, 0, s.count())
	for _, id := range s.rows {
		list = append(list, drift.Subject{Row: id})
	}
	for _, name := range s.names {
		list = append(list, drift.Subject{Provider: name})
	}
	return list
}

// suspectsOf returns subjects as suspects, with sorted names.
func suspectsOf(subjects []drift.Subject) (s suspects) {
	for _, subject := range subjects {
		if subject.Row != uuid.Nil {
			s.rows = append(s.rows, subject.Row)
		} else {
			s.names = append(s.names, subject.Provider)
		}
	}
	slices.Sort(s.names)
	return s
}

// sortIDs sorts ids, so that what is read does not depend on the order of a map.
func sortIDs(ids []uuid.UUID) {
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
}
