package environment

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// pluralFields hold several values, separated by commas.
var pluralFields = []string{"KEYS", "BEDROCK_ACCESS_KEYS", "BEDROCK_ACCESS_KEY_SECRETS"}

// checkValue checks what holds for the value of each field (docs/specification.md,
// section 1). A control character, such as the line break that a file or a
// here-document ends with, is an error. What is most likely left over from another
// program's syntax is a warning, since it can be part of a value.
func (p *parser) checkValue(e *entry, field string) {
	v, ok := e.set(field)
	if !ok || v.unread {
		return
	}
	l := list{variable: v.name, elements: []string{v.value}}
	if slices.Contains(pluralFields, field) {
		l.plural, l.elements = true, v.elements()
		if inQuotes(strings.TrimSpace(v.value)) && len(l.elements) > 1 {
			p.warnf(v.name, "is in quotes, which are taken for a part of its elements; remove them")
		}
	}
	for i, element := range l.elements {
		p.checkElement(l, i, element)
	}
}

func (p *parser) checkElement(l list, i int, element string) {
	if strings.ContainsFunc(element, unicode.IsControl) {
		if p.refused == nil {
			p.refused = make(map[string]bool)
		}
		p.refused[l.variable] = true
		if ended := strings.TrimRight(element, "\r\n"); ended != element && !strings.ContainsFunc(ended, unicode.IsControl) {
			p.errorf(l.variable, "%sends with a line break; set it without one", l.at(i))
		} else {
			p.errorf(l.variable, "%sholds a control character, such as a line break or a tab; remove it", l.at(i))
		}
		return
	}
	if l.plural { // whose elements are trimmed
		element = strings.TrimSpace(element)
	}
	trimmed := strings.TrimFunc(element, isBlank)
	if trimmed != element {
		p.warnf(l.variable, "%sbegins or ends with a space or an invisible character, which is taken for a part of it; remove it", l.at(i))
	}
	if inQuotes(trimmed) {
		p.warnf(l.variable, "%sis in quotes, which are taken for a part of it; remove them", l.at(i))
	}
	if strings.Contains(element, "$") && reference.MatchString(element) {
		p.warnf(l.variable, "%sholds a reference such as ${NAME}, which is taken literally: nothing is expanded; set the value that it stands for", l.at(i))
	}
}

// reference is a reference to a variable as shells, Docker Compose and systemd write
// it, or, with parentheses, Kubernetes.
var reference = regexp.MustCompile(`\$\{[^}]*\}|\$\([A-Za-z_][A-Za-z0-9_.-]*\)`)

// isBlank reports whether a character leaves no mark on a screen.
func isBlank(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }

// inQuotes reports whether a value begins and ends with quotes that belong together.
func inQuotes(value string) bool {
	for _, pair := range []struct{ opening, closing string }{{`"`, `"`}, {"'", "'"}, {"`", "`"}, {"“", "”"}, {"‘", "’"}} {
		if len(value) >= len(pair.opening)+len(pair.closing) && strings.HasPrefix(value, pair.opening) && strings.HasSuffix(value, pair.closing) {
			return true
		}
	}
	return false
}

// list is what a field holds that has a singular and a plural form.
type list struct {
	variable  string // as it was spelt; empty when neither form is set
	plural    bool
	ambiguous bool // both forms are set, which has been reported
	inFile    bool // the elements are the lines of a file
	unread    bool // that file could not be read, which has been reported
	elements  []string
}

// at returns how a message begins that is about an element.
func (l list) at(i int) string {
	if l.plural {
		return fmt.Sprintf("element %d ", i)
	}
	return ""
}

// parseList returns the elements of a field. The singular form is kept
// verbatim; the plural one is split at commas, in a file at the ends of lines. Its elements
// are trimmed and must not be empty.
func (p *parser) parseList(e *entry, singular, plural string) list {
	one, hasOne := e.set(singular)
	many, hasMany := e.set(plural)
	if !hasMany {
		switch {
		case !hasOne:
			return list{}
		case one.unread:
			return list{variable: one.name, unread: true}
		}
		return list{variable: one.name, elements: []string{one.value}}
	}

	l := list{variable: many.name, plural: true, ambiguous: hasOne, inFile: many.inFile, unread: many.unread}
	if !l.unread {
		l.elements = many.elements()
	}
	if l.ambiguous {
		p.errorf(l.variable, "cannot be combined with %s; remove one of them", one.name)
	}
	for i, element := range l.elements {
		l.elements[i] = strings.TrimSpace(element)
		switch {
		case l.elements[i] != "":
		case l.inFile:
			p.errorf(l.variable, "element %d is empty; remove its line", i)
		default:
			p.errorf(l.variable, "element %d is empty; remove it, or the comma before or after it", i)
		}
	}
	return l
}

func (p *parser) checkCount(l list) {
	if len(l.elements) > provider.MaxKeys {
		p.errorf(l.variable, "holds %d elements; at most %d are allowed", len(l.elements), provider.MaxKeys)
	}
}

func (p *parser) checkRepeats(l list) {
	if len(l.elements) < 2 {
		return
	}
	first := make(map[string]int, len(l.elements))
	for i, element := range l.elements {
		if before, ok := first[element]; !ok {
			first[element] = i
		} else if element != "" { // which is an error of its own
			p.errorf(l.variable, "element %d repeats element %d", i, before)
		}
	}
}

// checkStorable reports an element that Postgres cannot store as text. One with a
// NUL has been reported already, as any control character.
func (p *parser) checkStorable(l list, i int) bool {
	if utf8.ValidString(l.elements[i]) {
		return true
	}
	p.errorf(l.variable, "%sis not text that can be stored; it must be valid UTF-8", l.at(i))
	return false
}

// parseKeys returns the bearer keys, in their order, and the variable that holds
// them.
func (p *parser) parseKeys(e *entry, singular, plural string) (keys []secret.Text, variable string) {
	l := p.parseList(e, singular, plural)
	p.checkCount(l)
	p.checkRepeats(l)
	for i, element := range l.elements {
		p.checkStorable(l, i)
		keys = append(keys, secret.New(element))
	}
	return keys, l.variable
}

// parseText returns the field's value, or the default when it is not set.
func (p *parser) parseText(e *entry, field, otherwise string) string {
	v, ok := e.set(field)
	if !ok {
		return otherwise
	}
	p.checkStorable(list{variable: v.name, elements: []string{v.value}}, 0)
	return v.value
}

// parseBaseURL returns the field's value, or the default when it is not set. It
// is stored as it is, and the gateway fails with anything but an absolute URL.
func (p *parser) parseBaseURL(e *entry, field, otherwise string) string {
	v, ok := e.set(field)
	if !ok {
		return otherwise
	}
	if !p.checkStorable(list{variable: v.name, elements: []string{v.value}}, 0) || p.refused[v.name] {
		return v.value
	}
	// The error of url.Parse holds the URL and must not be shown.
	u, err := url.Parse(v.value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		p.errorf(v.name, "is not an absolute http or https URL with a host; write it as https://HOST/PATH")
	} else if provider.MayHoldCredentials(v.value) {
		p.warnf(v.name, "has userinfo, a query or a fragment, which can hold credentials: they are never shown, and a keyed digest is published instead of the hash; "+
			"where the provider takes a key, set it as one")
	}
	return v.value
}
