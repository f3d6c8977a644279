package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// chunk is how many rows one statement carries.
const chunk = 5000

// encode returns rows as the JSON from which jsonb_to_recordset makes them. A row is a
// struct whose members have the names of the columns. A nil pointer is NULL.
func encode[T any](rows []T) ([]byte, error) {
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(notNil(rows)); err != nil {
		return nil, fmt.Errorf("encode rows: %w", err)
	}
	return encoded.Bytes(), nil
}

// notNil returns the list, an empty one for nil, which would be NULL.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// text is a value of a text column. Unlike a string it reaches the server unchanged, which
// refuses what is not valid in the encoding of the database: encoding/json would replace
// that.
type text string

// nullable returns a text, nil for an empty one.
func nullable(s string) *text {
	if s == "" {
		return nil
	}
	t := text(s)
	return &t
}

// nonzero returns a value, nil for the zero one.
func nonzero[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

// errNUL is why a text cannot be stored. It does not show the text, which can be a secret.
var errNUL = errors.New("a text has a NUL byte, which PostgreSQL cannot store")

// MarshalJSON implements [json.Marshaler].
func (t text) MarshalJSON() ([]byte, error) {
	if strings.IndexByte(string(t), 0) >= 0 {
		return nil, errNUL
	}
	quoted := make([]byte, 0, len(t)+2)
	quoted = append(quoted, '"')
	for i := range len(t) {
		switch c := t[i]; {
		case c == '"' || c == '\\':
			quoted = append(quoted, '\\', c)
		case c < ' ':
			quoted = fmt.Appendf(quoted, `\u%04x`, c)
		default:
			quoted = append(quoted, c)
		}
	}
	return append(quoted, '"'), nil
}

// timestamp is a value of a timestamptz column, which has microseconds. Less than one is
// cut off, as the driver does.
type timestamp time.Time

// timestampOf returns a timestamp, nil for the zero time.
func timestampOf(t time.Time) *timestamp {
	if t.IsZero() {
		return nil
	}
	at := timestamp(t)
	return &at
}

// MarshalJSON implements [json.Marshaler]. Unlike that of [time.Time] it takes all years.
func (t timestamp) MarshalJSON() ([]byte, error) {
	at := time.Time(t).UTC()
	year, era := at.Year(), ""
	if year <= 0 {
		year, era = 1-year, " BC"
	}
	return fmt.Appendf(nil, `"%04d-%sZ%s"`, year, at.Format("01-02 15:04:05.999999"), era), nil
}

// unlessZero returns a time, nil for the zero one.
func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
