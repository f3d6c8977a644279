// Package secret holds text that must never be printed: API keys, access
// keys, passwords.
package secret

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// Redacted stands wherever a secret would be printed.
const Redacted = "[REDACTED]"

// Text is a secret string. Every usual way of printing it (fmt verbs, slog,
// encoding/json, encoding.TextMarshaler) yields [Redacted]; only [Text.Reveal]
// gives the plain text. The zero value is the absent secret.
type Text struct {
	// The indirection keeps the plain text out of %#v and of reflection-based
	// printers such as go-cmp and testify, which walk into structs but print
	// function values as addresses.
	reveal func() string
}

// New wraps plain. An empty string gives the absent secret.
func New(plain string) Text {
	if plain == "" {
		return Text{}
	}
	return Text{reveal: func() string { return plain }}
}

// Reveal returns the plain text, to be handed to the database driver and to
// nothing that prints.
func (t Text) Reveal() string {
	if t.reveal == nil {
		return ""
	}
	return t.reveal()
}

// IsZero reports whether there is no secret.
func (t Text) IsZero() bool { return t.reveal == nil }

// Equal reports whether both hold the same plain text.
func (t Text) Equal(u Text) bool { return t.Reveal() == u.Reveal() }

// Mask returns what an audit entry may show of the secret: its last four
// characters when it is long enough (20 characters or more) for these to give
// nothing away, and only asterisks otherwise.
func (t Text) Mask() string {
	const minLength, shown = 20, 4
	plain := t.Reveal()
	if len(plain) < minLength || !isASCII(plain) {
		return "****"
	}
	return "****" + plain[len(plain)-shown:]
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// String returns [Redacted].
func (Text) String() string { return Redacted }

// GoString returns [Redacted], for %#v.
func (Text) GoString() string { return Redacted }

// LogValue returns [Redacted], for log/slog.
func (Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON returns [Redacted] as a JSON string.
func (Text) MarshalJSON() ([]byte, error) { return json.Marshal(Redacted) }

// MarshalText returns [Redacted].
func (Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// Scan reads a secret from a database column (sql.Scanner); NULL gives the
// absent secret.
func (t *Text) Scan(column any) error {
	switch v := column.(type) {
	case nil:
		*t = Text{}
	case string:
		*t = New(v)
	case []byte:
		*t = New(string(v))
	default:
		return fmt.Errorf("cannot scan a column of Go type %T into a secret", column)
	}
	return nil
}
