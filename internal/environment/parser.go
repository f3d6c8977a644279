package environment

import (
	"fmt"
	"maps"
	"slices"

	"provwatch/internal/provider"
	"provwatch/internal/suggest"
)

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
	return parse(variables, optionsOf(options))
}

func parse(variables map[string]string, o options) (Environment, error) {
	p := parser{prefixes: o.prefixes, credentials: o.credentials, providers: make(map[string]namedProvider)}
	legacy, entries := p.group(variables)
	p.parseLegacy(legacy)
	p.checkGaps(entries)
	for _, e := range entries {
		p.parseIndexed(e)
	}

	p.prefixes.sort(p.warnings)
	env := Environment{Warnings: p.warnings}
	if len(p.errors) > 0 {
		p.prefixes.sort(p.errors)
		return env, &Error{Findings: p.errors}
	}
	env.Providers = make([]provider.Desired, 0, len(p.providers))
	for _, name := range slices.Sorted(maps.Keys(p.providers)) {
		env.Providers = append(env.Providers, p.providers[name].desired)
	}
	return env, nil
}

// parser collects what it finds instead of stopping at the first error. One goroutine
// uses it, for one call of [Parse].
type parser struct {
	prefixes  prefixes
	errors    []Finding
	warnings  []Finding
	providers map[string]namedProvider // the providers so far, by name
	refused   map[string]bool          // variables whose value holds a control character
	// credentials of entries that fold into one must agree.
	credentials bool
}

// namedProvider is a provider, and the variables that a message names when another
// entry claims the same name.
type namedProvider struct {
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

func (p *parser) add(n namedProvider) { p.providers[n.desired.Name] = n }

// group sorts the variables by what their names say: the legacy ones, and the
// indexed ones in the numeric order of their indices.
func (p *parser) group(variables map[string]string) (legacy *entry, indexed []*entry) {
	entries := make(map[int]*entry)
	for name, value := range variables {
		if value == "" {
			continue
		}
		parsed, ok := p.prefixes.parse(name)
		if !ok {
			continue
		}
		if parsed.fault != "" {
			p.errorf(name, "%s", parsed.fault)
			continue
		}
		e := entries[parsed.index]
		if e == nil {
			e = &entry{}
			entries[parsed.index] = e
		}
		e.variables = append(e.variables, variable{name: name, value: value})
	}
	for _, e := range entries {
		e.arrange(p.prefixes)
	}

	if legacy = entries[legacyIndex]; legacy == nil {
		legacy = &entry{parsed: parsedName{index: legacyIndex, stem: p.prefixes[0]}}
	}
	delete(entries, legacyIndex)
	for _, index := range slices.Sorted(maps.Keys(entries)) {
		indexed = append(indexed, entries[index])
	}
	return legacy, indexed
}

// reportDuplicates reports the field when it is set to several values, or spelt in
// several ways. The other checks use the first variable in name order.
func (p *parser) reportDuplicates(e *entry, field string) {
	for _, d := range e.duplicates[field] {
		if d.respelt {
			p.errorf(d.variable, "spells the field of %s in another way; remove one of them", e.nameOf(field))
		} else {
			p.errorf(d.variable, "is set to another value than %s, which means the same; remove one of them", e.nameOf(field))
		}
	}
}

func (p *parser) reportUnknown(e *entry) {
	for _, u := range e.unknown {
		p.warnf(u.variable, "is not a known field and is ignored; the nearest known one is %s", suggest.Nearest(u.field, e.parsed.nearby()))
	}
}
