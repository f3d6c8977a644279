package environment

import (
	"cmp"
	"slices"
	"strings"
)

// variable is a variable that is set.
type variable struct {
	name  string // as it was spelt
	value string // of a variable that names a file the path, until the file is read
	field string // the end of the name, as it was spelt; set when the entry is arranged
	// inFile: the variable names a file. unread: that file could not be read, which has
	// been reported.
	inFile, unread bool
}

// elements returns the elements of a plural field: separated by commas, in a file one a
// line.
func (v variable) elements() []string {
	if !v.inFile {
		return strings.Split(v.value, ",")
	}
	lines := strings.Split(v.value, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
	}
	return lines
}

// entry is all variables of one index, or all legacy variables.
type entry struct {
	variables []variable // until they are arranged
	first     string     // the name of its first variable, in name order
	parsed    parsedName // that name
	fields    map[string]variable
	// duplicates are the field's other variables, where that is an error.
	duplicates map[string][]duplicate
	// groups begin the names of its variables: up to the index, or of a legacy one
	// up to the first word of its field, as it is spelt.
	groups  []string
	unknown []unknownField
}

// duplicate is a variable of a field that another variable sets too.
type duplicate struct {
	variable string
	// respelt: the field's name is spelt in another way, which is an error whatever
	// the values are.
	respelt bool
	// combined: one of the two names a file, and the other does not.
	combined bool
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
	return e.parsed.stem + field
}

// arrange goes through the entry's variables in name order: sorting the few of
// each entry is cheaper by far than sorting those of all.
func (e *entry) arrange(prefixes prefixes) {
	slices.SortFunc(e.variables, func(a, b variable) int { return cmp.Compare(a.name, b.name) })
	e.fields = make(map[string]variable, len(e.variables))
	for i, v := range e.variables {
		parsed, _ := prefixes.parse(v.name)
		if i == 0 {
			e.first, e.parsed = v.name, parsed
		}
		e.add(parsed, v)
	}
	e.variables = nil
}

func (e *entry) add(name parsedName, v variable) {
	if !slices.Contains(name.known(), name.field) {
		e.unknown = append(e.unknown, unknownField{v.name, name.field})
		return
	}
	group := name.stem
	if name.index == legacyIndex {
		word, _, _ := strings.Cut(name.field, "_")
		group = v.name[:len(name.stem)+len(word)+1]
	}
	if !slices.Contains(e.groups, group) {
		e.groups = append(e.groups, group)
	}
	// The same field can have several variables: with either prefix, and its index
	// with leading zeros.
	before, ok := e.fields[name.field]
	if !ok {
		v.field, v.inFile = name.spelt, name.inFile
		e.fields[name.field] = v
		return
	}
	if respelt := before.field != name.spelt; respelt || before.value != v.value {
		if e.duplicates == nil {
			e.duplicates = make(map[string][]duplicate)
		}
		e.duplicates[name.field] = append(e.duplicates[name.field], duplicate{v.name, respelt, before.inFile != name.inFile})
	}
}
