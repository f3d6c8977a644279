package environment

import (
	"maps"
	"slices"

	"provwatch/internal/provider"
)

// Parse parses the variables, by name, into the desired providers.
// It reads the files of secrets that variables name, looks at nothing else and has no
// effects.
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
	p := parser{prefixes: o.prefixes, credentials: o.credentials, providers: make(map[string]namedProvider), files: o.files}
	legacy, entries := p.group(variables)
	p.parseLegacy(legacy)
	p.checkGaps(entries)
	for _, e := range entries {
		p.parseIndexed(e)
	}

	p.prefixes.sort(p.warnings)
	env := Environment{Warnings: p.warnings, Skipped: p.skipped}
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
