package web

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"provwatch/internal/status"
)

// maxShown bounds a value that is shown, in bytes: names have no bound of their
// own.
const maxShown = 500

var functions = template.FuncMap{
	"shown": shown,
	"value": func(s string) string {
		if s == "" {
			return status.Empty
		}
		return shown(s)
	},
	"when":  func(t any) string { return timeOf(t).Format("2006-01-02 15:04:05") },
	"stamp": func(t any) string { return timeOf(t).Format("2006-01-02T15:04:05.000Z") },
	"bytes": func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
}

func timeOf(t any) time.Time {
	switch t := t.(type) {
	case time.Time:
		return t.UTC()
	case *time.Time:
		return t.UTC()
	default:
		panic(fmt.Sprintf("web: %T is no time", t))
	}
}

// shown returns a value, of any string type, without what could pass for
// something else: control characters, and characters that turn the direction of text.
func shown(v any) string {
	s := fmt.Sprint(v)
	cut := len(s) > maxShown
	if cut {
		s = s[:maxShown]
		for !utf8.ValidString(s) && len(s) > maxShown-utf8.UTFMax {
			s = s[:len(s)-1]
		}
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) || r == unicode.ReplacementChar }) {
		s = strconv.Quote(s)
	}
	if cut {
		s += "…"
	}
	return s
}
