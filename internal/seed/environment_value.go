package seed

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"provwatch/internal/secret"
)

// maxKeys is how many keys, or access keys, a provider can have (spec section 1).
const maxKeys = 5

// list is what a field holds that has a singular and a plural form.
type list struct {
	variable  string // as it was spelt; empty when neither form is set
	plural    bool
	ambiguous bool // both forms are set, which has been reported
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
// verbatim; the plural one is split at commas, and its elements are trimmed and
// must not be empty.
func (p *parser) parseList(e *entry, singular, plural string) list {
	one, hasOne := e.set(singular)
	many, hasMany := e.set(plural)
	if !hasMany {
		if !hasOne {
			return list{}
		}
		return list{variable: one.name, elements: []string{one.value}}
	}

	l := list{variable: many.name, plural: true, ambiguous: hasOne, elements: strings.Split(many.value, ",")}
	if l.ambiguous {
		p.errorf(l.variable, "cannot be combined with %s; remove one of them", one.name)
	}
	for i, element := range l.elements {
		l.elements[i] = strings.TrimSpace(element)
		if l.elements[i] == "" {
			p.errorf(l.variable, "element %d is empty; remove it, or the comma before or after it", i)
		}
	}
	return l
}

func (p *parser) checkCount(l list) {
	if len(l.elements) > maxKeys {
		p.errorf(l.variable, "holds %d elements; at most %d are allowed", len(l.elements), maxKeys)
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

// checkStorable reports an element that Postgres cannot store as text.
func (p *parser) checkStorable(l list, i int) bool {
	if s := l.elements[i]; utf8.ValidString(s) && !strings.Contains(s, "\x00") {
		return true
	}
	p.errorf(l.variable, "%sis not text that can be stored; it must be valid UTF-8 without a NUL character", l.at(i))
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
	if !p.checkStorable(list{variable: v.name, elements: []string{v.value}}, 0) {
		return v.value
	}
	// The error of url.Parse holds the URL and must not be shown.
	u, err := url.Parse(v.value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		p.errorf(v.name, "is not an absolute http or https URL with a host; write it as https://HOST/PATH")
	}
	return v.value
}
