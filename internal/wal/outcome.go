package wal

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"

	"provwatch/internal/drift"
)

// outcome is what transactions of the stream come to.
type outcome struct {
	position    pglogrepl.LSN // up to which the stream is handled
	handled     int
	keysTouched bool                   // credentials may have changed
	markers     []string               // the tokens of our own messages
	touched     map[drift.Subject]bool // the desired providers and the rows that the transactions have changed
	allTouched  bool                   // of the rows all may have changed
	// unread is a row of which not enough is known, uuid.Nil for none; unknown are such rows
	// and the desired providers that have one.
	unread  uuid.UUID
	unknown map[drift.Subject]bool

	current   map[drift.Subject]bool // those of touched that the current transaction has changed
	truncated bool                   // the current transaction has removed all rows
	// large is set for a transaction in parts. Its rows are not in touched and current, since
	// there can be more of them than memory should hold.
	large bool
	// renamed are the rows to which the current transaction has given another name, by the
	// desired provider that had been theirs.
	renamed map[string]uuid.UUID
}

func newOutcome(position pglogrepl.LSN) *outcome {
	return &outcome{
		position: position, touched: map[drift.Subject]bool{}, unknown: map[drift.Subject]bool{}, current: map[drift.Subject]bool{},
		renamed: map[string]uuid.UUID{},
	}
}

// touch adds what the current transaction has changed.
func (o *outcome) touch(s drift.Subject) { o.current[s], o.touched[s] = true, true }

// touchRow adds a row that the current transaction has changed, [uuid.Nil] for none.
func (o *outcome) touchRow(id uuid.UUID) {
	if id != uuid.Nil && !o.large {
		o.touch(drift.Subject{Row: id})
	}
}

// touchChanged adds the rows of a change of one.
func (o *outcome) touchChanged(c change) {
	o.touchRow(c.removed)
	if c.put != nil {
		o.touchRow(c.put.id)
	}
}

// takeCurrent returns what the current transaction has touched, sorted, and begins with the
// next one. The rows come first: until a provider is recorded with another row, the former one
// is known to have been its own.
func (o *outcome) takeCurrent() []drift.Subject {
	subjects := slices.SortedFunc(maps.Keys(o.current), func(a, b drift.Subject) int {
		return cmp.Or(bytes.Compare(b.Row[:], a.Row[:]), cmp.Compare(a.Provider, b.Provider))
	})
	clear(o.current)
	return subjects
}
