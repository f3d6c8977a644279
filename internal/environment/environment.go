// Package environment turns environment variables and files into desired providers
// (docs/specification.md, section 1).
package environment

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/dustin/go-humanize/english"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/suggest"
)

// Environment is the provider configuration that the environment variables ask
// for (docs/specification.md, section 1).
type Environment struct {
	Providers []provider.Desired // in name order, one a name
	Warnings  []Finding          // the environment file first, legacy variables, then by index and variable
	// FileVariables is how many provider variables the environment file sets, of no
	// matter which value the process has; 0 without a file.
	FileVariables int
	// Keys encrypt and decrypt stored secrets. KeysFile is the file that they come from,
	// empty where they are in a variable.
	Keys     dbcrypt.Keys
	KeysFile string
}

// Finding is an error or a warning about one variable. It never holds the value of
// a variable, not even of one that is not supposed to be secret: a key can be pasted
// anywhere.
type Finding struct {
	// Variable is the name as it was spelt. Of a finding about lines of the environment
	// file, or the file itself, it is the path of the file.
	Variable string
	Message  string
}

// String returns "VARIABLE: message", always one line.
func (f Finding) String() string {
	name := f.Variable
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		// Names are whatever the parent process chose, line breaks included.
		name = strconv.Quote(name)
	}
	return name + ": " + f.Message
}

// Error holds every error found in the environment, in the order
// of [Environment.Warnings]. The worker exits with code 3.
type Error struct {
	Findings []Finding
}

// Error says how many errors there are, and then each on a line of its own.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(english.Plural(len(e.Findings), "error", "") + " in the environment:")
	for _, f := range e.Findings {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// Parse parses the variables, by name, into the desired providers.
// It looks at nothing else and has no effects.
//
// A variable set to the empty string counts as not set. Variables that are
// neither provider variables nor look like misspelt ones are the gateway's own
// and are passed over silently, DUMP_DIR included.
//
// With [RequireCredentials], two entries of one name whose credentials differ are
// an error: otherwise they fold into one, and the credentials of the second are lost.
//
// When there are errors the result has no providers, but still the warnings,
// and the error is an [*Error].
func Parse(variables map[string]string, options ...Option) (Environment, error) {
	p := parser{credentials: optionsOf(options).credentials}
	legacy, entries := p.group(variables)
	p.parseLegacy(legacy)
	p.checkGaps(entries)
	for _, e := range entries {
		p.parseIndexed(e)
	}

	sortFindings(p.warnings)
	env := Environment{Warnings: p.warnings}
	if len(p.errors) > 0 {
		sortFindings(p.errors)
		return env, &Error{Findings: p.errors}
	}
	env.Providers = make([]provider.Desired, 0, len(p.standing))
	for _, name := range slices.Sorted(maps.Keys(p.standing)) {
		env.Providers = append(env.Providers, p.standing[name].desired)
	}
	return env, nil
}

// parser collects what it finds instead of stopping at the first error.
type parser struct {
	errors   []Finding
	warnings []Finding
	standing map[string]standing // the providers so far, by name
	refused  map[string]bool     // variables whose value holds a control character
	// credentials of entries that fold into one must agree.
	credentials bool
}

// standing is a provider that has its name, and the variables to be named to
// whoever wants the same name.
type standing struct {
	desired provider.Desired
	// variables give an indexed provider its name, or make a legacy provider
	// exist.
	variables []string
	legacy    bool
}

func (p *parser) errorf(variable, format string, args ...any) {
	p.errors = append(p.errors, Finding{variable, fmt.Sprintf(format, args...)})
}

func (p *parser) warnf(variable, format string, args ...any) {
	p.warnings = append(p.warnings, Finding{variable, fmt.Sprintf(format, args...)})
}

func (p *parser) stand(s standing) {
	if p.standing == nil {
		p.standing = make(map[string]standing)
	}
	p.standing[s.desired.Name] = s
}

// variable is a variable that is set.
type variable struct {
	name  string // as it was spelt
	value string
	field string // the end of the name, as it was spelt; set when the entry is arranged
}

// entry is all variables of one index, or all legacy variables.
type entry struct {
	variables []variable // until they are arranged
	place     place      // of its first variable in name order
	first     string     // the name of that variable
	fields    map[string]variable
	rivals    map[string][]rival // the field's other variables, where that is an error
	// groups begin the names of its variables: up to the index, or of a legacy one
	// up to the first word of its field, as it is spelt.
	groups  []string
	unknown []unknownField
}

// rival is a variable of a field that another variable sets too.
type rival struct {
	variable string
	// respelt: the field's name is spelt in another way, which is an error whatever
	// the values are.
	respelt bool
}

type unknownField struct{ variable, field string }

// set returns the variable of the field, and whether it is set.
func (e *entry) set(field string) (variable, bool) {
	v, ok := e.fields[field]
	return v, ok
}

// firstSet returns the name of the first of the fields' variables that is set,
// or the empty string.
func (e *entry) firstSet(fields ...string) string {
	for _, f := range fields {
		if v, ok := e.fields[f]; ok {
			return v.name
		}
	}
	return ""
}

// variablesOf returns patterns of all variables of the groups that end so, in any
// case, for messages.
func (e *entry) variablesOf(ends ...string) string {
	var patterns []string
	for _, group := range e.groups {
		if slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(upper(group), end) }) {
			patterns = append(patterns, group+"*")
		}
	}
	return strings.Join(patterns, ", ")
}

// nameOf returns the field's variable as it is spelt or, when it is not set, as
// it would be spelt.
func (e *entry) nameOf(field string) string {
	if v, ok := e.fields[field]; ok {
		return v.name
	}
	return e.place.stem + field
}

// group sorts the variables by what their names say: the legacy ones, and the
// indexed ones in the numeric order of their indices.
func (p *parser) group(variables map[string]string) (legacy *entry, indexed []*entry) {
	entries := make(map[int]*entry)
	for name, value := range variables {
		if value == "" {
			continue
		}
		at, ok := placeOf(name)
		if !ok {
			continue
		}
		if at.fault != "" {
			p.errorf(name, "%s", at.fault)
			continue
		}
		e := entries[at.index]
		if e == nil {
			e = &entry{}
			entries[at.index] = e
		}
		e.variables = append(e.variables, variable{name: name, value: value})
	}
	for _, e := range entries {
		e.arrange()
	}

	if legacy = entries[legacyIndex]; legacy == nil {
		legacy = &entry{place: place{stem: prefix}}
	}
	delete(entries, legacyIndex)
	for _, index := range slices.Sorted(maps.Keys(entries)) {
		indexed = append(indexed, entries[index])
	}
	return legacy, indexed
}

// arrange goes through the entry's variables in name order: sorting the few of
// each entry is cheaper by far than sorting those of all.
func (e *entry) arrange() {
	slices.SortFunc(e.variables, func(a, b variable) int { return cmp.Compare(a.name, b.name) })
	e.fields = make(map[string]variable, len(e.variables))
	for i, v := range e.variables {
		at, _ := placeOf(v.name)
		if i == 0 {
			e.place, e.first = at, v.name
		}
		e.add(at, v)
	}
	e.variables = nil
}

func (e *entry) add(at place, v variable) {
	if !slices.Contains(at.known(), at.field) {
		e.unknown = append(e.unknown, unknownField{v.name, at.field})
		return
	}
	group := at.stem
	if at.index == legacyIndex {
		word, _, _ := strings.Cut(at.field, "_")
		group = v.name[:len(at.stem)+len(word)+1]
	}
	if !slices.Contains(e.groups, group) {
		e.groups = append(e.groups, group)
	}
	// The same field can have several variables: with either prefix, and its index
	// with leading zeros.
	before, ok := e.fields[at.field]
	if !ok {
		v.field = at.spelt
		e.fields[at.field] = v
		return
	}
	if respelt := before.field != at.spelt; respelt || before.value != v.value {
		if e.rivals == nil {
			e.rivals = make(map[string][]rival)
		}
		e.rivals[at.field] = append(e.rivals[at.field], rival{v.name, respelt})
	}
}

// reportRivals reports the field when it is set to several values, or spelt in
// several ways. The first variable in name order is the one that other checks see.
func (p *parser) reportRivals(e *entry, field string) {
	for _, r := range e.rivals[field] {
		if r.respelt {
			p.errorf(r.variable, "spells the field of %s in another way; remove one of them", e.nameOf(field))
		} else {
			p.errorf(r.variable, "is set to another value than %s, which means the same; remove one of them", e.nameOf(field))
		}
	}
}

func (p *parser) reportUnknown(e *entry) {
	for _, u := range e.unknown {
		p.warnf(u.variable, "is not a known field and is ignored; the nearest known one is %s", suggest.Nearest(u.field, e.place.nearby()))
	}
}

// sortFindings sorts by index (the file first, legacy variables, those without a valid
// index last), then by variable. What is found in one variable keeps its order.
func sortFindings(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(orderOf(a.Variable), orderOf(b.Variable)), cmp.Compare(a.Variable, b.Variable))
	})
}
