// Package soak tests the whole worker in the manner of Jepsen: scripted writers
// change providers on a real PostgreSQL, a nemesis breaks what it can, and a
// checker replays what was committed against a model of its own. docs/soak.md
// says what is modelled and how to run it.
//
// The checker is tested without the run itself, which is behind the build tag
// soak.
package soak

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// position is a position in the write-ahead log.
type position uint64

func parsePosition(text string) (position, error) {
	high, low, ok := strings.Cut(text, "/")
	if !ok {
		return 0, fmt.Errorf("%q is no position in the WAL", text)
	}
	h, err := strconv.ParseUint(high, 16, 32)
	if err != nil {
		return 0, err
	}
	l, err := strconv.ParseUint(low, 16, 32)
	if err != nil {
		return 0, err
	}
	return position(h<<32 | l), nil
}

func (p position) String() string { return fmt.Sprintf("%X/%X", uint64(p)>>32, uint32(p)) }

// value is a column's value. One that was not changed and is stored out of line
// does not travel.
type value struct {
	text            string
	null, unchanged bool
}

// tuple is a row, by column.
type tuple map[string]value

func (t tuple) text(column string) string { return t[column].text }

// change is a change of one row, or a TRUNCATE.
type change struct {
	table  string // with its schema
	action string // INSERT, UPDATE, DELETE or TRUNCATE
	key    tuple  // of an UPDATE that changes the primary key, and of a DELETE
	row    tuple
}

// transaction is what one committed transaction changed.
type transaction struct {
	xid     int64
	end     position // of its commit record; transactions are ordered by it
	at      time.Time
	changes []change
}

// decoder assembles transactions from what the output plugin test_decoding
// prints: PostgreSQL's own account of what was committed, in the order of the
// commits, and none of the worker's code.
type decoder struct{ current *transaction }

// decode takes one line with the position that goes with it, and returns the
// transaction that it completes, if any.
func (d *decoder) decode(at position, line string) (*transaction, error) {
	switch {
	case strings.HasPrefix(line, "BEGIN "):
		xid, err := strconv.ParseInt(strings.TrimPrefix(line, "BEGIN "), 10, 64)
		d.current = &transaction{xid: xid}
		return nil, err
	case strings.HasPrefix(line, "COMMIT "):
		done := d.current
		d.current = nil
		_, stamp, _ := strings.Cut(line, "(at ")
		committed, err := time.Parse("2006-01-02 15:04:05.999999-07", strings.TrimSuffix(stamp, ")"))
		if err != nil {
			return nil, err
		}
		done.at, done.end = committed, at
		return done, nil
	case strings.HasPrefix(line, "table "):
		c, err := parseChange(strings.TrimPrefix(line, "table "))
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, line)
		}
		// A TRUNCATE can name several tables.
		for _, table := range strings.Split(c.table, ", ") {
			c.table = table
			d.current.changes = append(d.current.changes, c)
		}
	}
	return nil, nil
}

func parseChange(text string) (change, error) {
	table, rest, ok := strings.Cut(text, ": ")
	action, rest, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return change{}, fmt.Errorf("not a change")
	}
	c := change{table: table, action: action}
	rest = strings.TrimPrefix(rest, " ")
	var err error
	switch action {
	case "INSERT":
		c.row, _, err = parseTuple(rest)
	case "UPDATE":
		if key, ok := strings.CutPrefix(rest, "old-key: "); ok {
			if c.key, rest, err = parseTuple(key); err != nil {
				return c, err
			}
			rest = strings.TrimPrefix(rest, "new-tuple: ")
		}
		c.row, _, err = parseTuple(rest)
	case "DELETE":
		c.key, _, err = parseTuple(rest)
	}
	return c, err
}

// parseTuple parses name[type]:value …, and returns what is left at new-tuple.
func parseTuple(text string) (tuple, string, error) {
	t := tuple{}
	for text != "" && !strings.HasPrefix(text, "new-tuple:") && !strings.HasPrefix(text, "(no-tuple-data)") {
		name, rest, ok := strings.Cut(text, "[")
		_, rest, ok2 := strings.Cut(rest, "]:")
		if !ok || !ok2 {
			return nil, "", fmt.Errorf("not a row")
		}
		var v value
		if strings.HasPrefix(rest, "'") {
			var b strings.Builder
			i := 1
			for ; ; i++ {
				if i >= len(rest) {
					return nil, "", fmt.Errorf("a value without an end")
				}
				if rest[i] == '\'' {
					if i+1 >= len(rest) || rest[i+1] != '\'' {
						break
					}
					i++
				}
				b.WriteByte(rest[i])
			}
			v.text, rest = b.String(), rest[i+1:]
		} else {
			v.text, rest, _ = strings.Cut(rest, " ")
			rest = " " + rest
			switch v.text {
			case "null":
				v = value{null: true}
			case "unchanged-toast-datum":
				v = value{unchanged: true}
			}
		}
		t[strings.Trim(name, `"`)] = v
		text = strings.TrimPrefix(rest, " ")
	}
	return t, text, nil
}
