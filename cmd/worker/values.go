package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"provwatch/internal/postgres"
	"provwatch/internal/reconcile"
)

// value is what a flag, its variable or a field of --config sets. Set fails only for a text
// that the type cannot hold. [flags.check] reports everything else, all at once and in the
// format of --log-format.
type value interface {
	pflag.Value
	// problem continues the name of a flag with the reason why its value cannot be used. It
	// is empty for a usable value.
	problem() string
}

// enum is a setting that takes one of a few words.
type enum[T ~string] struct {
	value *T
	list  []T
	must  string // what problem returns; empty for the list
}

func oneOf[T ~string](value *T, list ...T) enum[T] { return enum[T]{value: value, list: list} }

func (e enum[T]) Set(text string) error { *e.value = T(text); return nil }
func (e enum[T]) String() string        { return string(*e.value) }
func (e enum[T]) Type() string          { return "string" }

func (e enum[T]) problem() string {
	switch {
	case slices.Contains(e.list, *e.value):
		return ""
	case e.must != "":
		return e.must
	}
	return "must be one of " + strings.Join(e.words(), ", ")
}

// words returns the words in the order of the table.
func (e enum[T]) words() []string {
	words := make([]string, len(e.list))
	for i, word := range e.list {
		words[i] = string(word)
	}
	return words
}

// text is a setting that takes any text.
type text string

func (t *text) Set(s string) error { *t = text(s); return nil }
func (t *text) String() string     { return string(*t) }
func (t *text) Type() string       { return "string" }
func (t *text) problem() string    { return "" }

// reason is a setting that takes an operator's words, which other people read.
type reason string

// maxReason is what the column has room for, in characters.
const maxReason = 500

func (r *reason) Set(s string) error { *r = reason(s); return nil }
func (r *reason) String() string     { return string(*r) }
func (r *reason) Type() string       { return "string" }

func (r *reason) problem() string {
	s := string(*r)
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxReason || strings.TrimSpace(s) == "" || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Sprintf("must be a text of at most %d characters, without control characters", maxReason)
	}
	return ""
}

// folder is a setting that takes the path of a folder.
type folder struct{ *text }

func (f folder) problem() string {
	if postgres.HoldsConnectionString(f.String()) { // a path is printed
		return "must be the path of a folder; a connection string goes into DATABASE_URL, or into the file of --database-url-file"
	}
	return ""
}

// absoluteURL is a setting that takes a URL with its scheme.
type absoluteURL struct{ *text }

func (u absoluteURL) problem() string {
	if parsed, err := url.Parse(u.String()); err != nil || !parsed.IsAbs() {
		return "must be an absolute URL"
	}
	return ""
}

// address is a setting that takes a TCP address to listen on.
type address struct{ *text }

func (a address) problem() string {
	_, port, err := net.SplitHostPort(a.String())
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return "must be HOST:PORT, such as 127.0.0.1:9464"
	}
	return ""
}

// size is a setting that takes an amount of bytes. It keeps the text, which the help prints.
type size string

func (s *size) Set(text string) error { *s = size(text); return nil }
func (s *size) String() string        { return string(*s) }
func (s *size) Type() string          { return "string" }

func (s *size) problem() string {
	if _, err := s.bytes(); err != nil {
		return "must be an amount of bytes, such as 500MB or 4GiB"
	}
	return ""
}

func (s *size) bytes() (int64, error) {
	bytes, err := humanize.ParseBytes(string(*s))
	if err == nil && bytes > math.MaxInt64 {
		err = errors.New("too many bytes")
	}
	return int64(bytes), err
}

// duration is a setting that takes a positive duration, and one of at least the limit where
// there is a limit.
type duration struct {
	value  *time.Duration
	least  time.Duration
	orZero bool // 0 is allowed as well
}

func (d duration) Set(text string) (err error) {
	*d.value, err = parseDuration(text)
	return err
}

func (d duration) String() string { return d.value.String() }
func (d duration) Type() string   { return "duration" }

func (d duration) problem() string {
	switch {
	case d.orZero && *d.value == 0:
		return ""
	case d.least > 0 && *d.value < d.least:
		return "must be at least " + d.least.String()
	case d.orZero && *d.value < 0:
		return "must be 0 or positive, such as 30s"
	case *d.value <= 0:
		return "must be positive, such as 30s"
	}
	return ""
}

// errDuration is returned for a text that is no duration.
var errDuration = errors.New("not a duration")

// parseDuration is [time.ParseDuration] that also knows weeks and days, of 24 hours each:
// 90d, 1w2d12h.
func parseDuration(text string) (time.Duration, error) {
	const day = 24 * time.Hour
	var sum time.Duration
	rest := text
	for _, unit := range []struct {
		letter string
		length time.Duration
	}{{"w", 7 * day}, {"d", day}} {
		number, after, found := strings.Cut(rest, unit.letter)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || int64(n) > int64(math.MaxInt64-sum)/int64(unit.length) {
			return 0, errDuration
		}
		sum, rest = sum+time.Duration(n)*unit.length, after
	}
	if rest == "" && rest != text {
		return sum, nil
	}
	small, err := time.ParseDuration(rest)
	if err != nil || sum > 0 && (small < 0 || small > math.MaxInt64-sum) {
		return 0, errDuration
	}
	return sum + small, nil
}

// end is a setting that takes when something ends: after a duration, or at a time with its
// zone. It keeps the text; empty is for no end.
type end string

func (e *end) Set(text string) error { *e = end(text); return nil }
func (e *end) String() string        { return string(*e) }
func (e *end) Type() string          { return "duration" }

func (e *end) problem() string {
	if after, err := parseDuration(string(*e)); err == nil && after > 0 {
		return ""
	}
	at, err := time.Parse(time.RFC3339, string(*e))
	switch {
	case err != nil:
		return "must be a positive duration, such as 7d, or a time with its zone, such as 2026-08-01T18:00:00Z"
	case !at.After(time.Now()):
		return "must be in the future"
	}
	return ""
}

// of returns the end of an acceptance. The setting has no problem.
func (e *end) of() reconcile.End {
	if after, err := parseDuration(string(*e)); err == nil {
		return reconcile.End{After: after}
	}
	at, _ := time.Parse(time.RFC3339, string(*e))
	return reconcile.End{At: at}
}

// span is a setting that takes how long something lasts. It keeps the text; empty is for none.
type span string

func (s *span) Set(text string) error { *s = span(text); return nil }
func (s *span) String() string        { return string(*s) }
func (s *span) Type() string          { return "duration" }

func (s *span) problem() string {
	if d, err := parseDuration(string(*s)); err != nil || d <= 0 {
		return "must be a positive duration, such as 2h or 3d"
	}
	return ""
}

// duration is 0 for a span that is not set.
func (s *span) duration() time.Duration {
	d, _ := parseDuration(string(*s))
	return d
}

// moment is a setting that takes a time with its zone. It keeps the text; empty is for none.
type moment string

func (m *moment) Set(text string) error { *m = moment(text); return nil }
func (m *moment) String() string        { return string(*m) }
func (m *moment) Type() string          { return "time" }

func (m *moment) problem() string {
	at, err := time.Parse(time.RFC3339, string(*m))
	switch {
	case err != nil:
		return "must be a time with its zone, such as 2026-08-01T18:00:00Z"
	case !at.After(time.Now()):
		return "must be in the future"
	}
	return ""
}

// time is the zero time for a moment that is not set.
func (m *moment) time() time.Time {
	at, _ := time.Parse(time.RFC3339, string(*m))
	return at
}

// age is a setting that takes an age of rows. It keeps the text, which the help and the
// messages print; empty is for none.
type age string

func (a *age) Set(text string) error { *a = age(text); return nil }
func (a *age) String() string        { return string(*a) }
func (a *age) Type() string          { return "duration" }

func (a *age) problem() string {
	if d, err := parseDuration(string(*a)); err != nil || d < time.Second {
		return "must be a duration of at least 1s, such as 90d"
	}
	return ""
}

// duration is 0 for an age that is not set.
func (a *age) duration() time.Duration {
	d, _ := parseDuration(string(*a))
	return d
}

// forever is the lifetime of rows that are never pruned.
const forever = "forever"

// lifetime is a setting that takes the age up to which rows are kept, or "forever".
type lifetime struct{ *age }

func (l lifetime) problem() string {
	if l.String() == forever {
		return ""
	}
	if l.age.problem() != "" {
		return "must be forever, or a duration of at least 1s, such as 90d"
	}
	return ""
}

// toggle is a setting that is on or off.
type toggle bool

func (t *toggle) Set(text string) error {
	on, err := strconv.ParseBool(text)
	*t = toggle(on)
	return err
}

func (t *toggle) String() string  { return strconv.FormatBool(bool(*t)) }
func (t *toggle) Type() string    { return "bool" }
func (t *toggle) problem() string { return "" }

// whole is a setting that takes a whole number.
type whole int64

func (w *whole) Set(text string) error {
	n, err := strconv.ParseInt(text, 0, 64)
	*w = whole(n)
	return err
}

func (w *whole) String() string  { return strconv.FormatInt(int64(*w), 10) }
func (w *whole) Type() string    { return "int64" }
func (w *whole) problem() string { return "" }

// wanted describes the values that a type holds, for a value that it does not.
func wanted(kind, value string) string {
	switch kind {
	case "duration":
		const noSecret = 16 // bits of a number
		if _, err := strconv.ParseUint(value, 10, noSecret); err == nil {
			return "a duration with its unit, such as " + value + "s"
		}
		return "a duration, such as 30s"
	case "bool":
		return "true or false"
	case "int64":
		return "a whole number"
	default:
		return "a " + kind
	}
}
