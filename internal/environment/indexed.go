package environment

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// namePattern is the CHECK of the column ai_providers.name.
var namePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// IsName reports whether a provider can have the name (docs/specification.md, section 1).
func IsName(name string) bool { return namePattern.MatchString(name) }

// checkGaps reports the indices that are skipped, a run of them at a time: an
// index can be as large as maxIndex. An entry counts whatever is wrong with it.
func (p *parser) checkGaps(entries []*entry) {
	next := 0
	for _, e := range entries {
		at := e.firstSet("TYPE")
		if at == "" {
			at = e.first
		}
		const remedy = "number the providers 0, 1, 2, … without a gap"
		switch last := e.parsed.index - 1; {
		case last == next:
			p.errorf(at, "index %d is skipped; %s", next, remedy)
		case last > next:
			p.errorf(at, "indices %d to %d are skipped; %s", next, last, remedy)
		}
		next = e.parsed.index + 1
	}
}

// parseIndexed parses the variables of one index (docs/specification.md, section 1).
//
// An entry of an unknown type is skipped with a warning, and its other fields
// are not checked: they can be right for a version that knows the type.
// Without a type, with two, or with a control character in it the checks that need
// no type are still made.
func (p *parser) parseIndexed(e *entry) {
	kind, ok := e.set("TYPE")
	p.checkValue(e, "TYPE")
	known := ok && len(e.duplicates["TYPE"]) == 0 && !p.refused[kind.name]
	if known && !slices.Contains(provider.Types(), provider.Type(kind.value)) {
		p.warnf(kind.name, "%s", unknownType(kind.value))
		name := kind.value
		if given, ok := e.set("NAME"); ok {
			name = given.value
		}
		if namePattern.MatchString(name) {
			p.skipped = append(p.skipped, name)
		}
		return
	}
	for _, field := range indexedFields {
		p.reportDuplicates(e, field)
		p.readFile(e, field)
		if field != "TYPE" {
			p.checkValue(e, field)
		}
	}
	p.reportUnknown(e)
	if !ok {
		p.errorf(e.first, "its provider has no type; set %s to %s", e.nameOf("TYPE"), anyType())
	}

	d := provider.Desired{Type: provider.Type(kind.value), Variables: e.variablesOf("")}
	if known {
		p.parseTyped(e, &d)
	} else {
		p.checkUntyped(e)
	}

	naming := kind
	if name, ok := e.set("NAME"); ok {
		naming = name
		if p.refused[name.name] {
			return
		}
		if !namePattern.MatchString(name.value) {
			p.errorf(name.name, "the name does not match %s (lower-case letters and digits, with single hyphens between)", namePattern)
			return
		}
	} else if !known {
		return
	}
	d.Name = naming.value
	p.claimName(e, d, naming.name, known)
}

// claimName adds the provider, unless its name is taken: by a legacy provider,
// which is an error, or by one of a lower index, into which an equal one folds. Where
// credentials are required to agree, one with other credentials is not equal.
// A provider without a known type is checked, but not added.
func (p *parser) claimName(e *entry, d provider.Desired, naming string, known bool) {
	other, taken := p.providers[d.Name]
	switch {
	case taken && other.legacy:
		p.errorf(naming, "its provider has the name of the legacy provider %q; remove either %s or the variables %s*",
			other.desired.Name, strings.Join(other.variables, ", "), e.parsed.stem)
	case !known:
	case !taken:
		p.add(namedProvider{desired: d, variables: []string{naming}})
	case other.desired.Canonical().Hash() != d.Canonical().Hash():
		p.errorf(naming, "its provider has the name that %s gives to another one, and differs from it; "+
			"give it another name, or remove one of the two", other.variables[0])
	case p.credentials && len(differingCredentials(other.desired, d)) > 0:
		p.errorf(naming, "its provider has the name that %s gives to another one, and its %s differ; "+
			"with --compat=upstream-credentials they must agree: give it another name, or remove one of the two",
			other.variables[0], strings.Join(differingCredentials(other.desired, d), " and "))
	default:
		message := fmt.Sprintf("its provider equals the provider of %s and is folded into it", other.variables[0])
		if ignored := differing(other.desired, d); len(ignored) > 0 {
			message += "; its " + strings.Join(ignored, " and ") + " differ and are ignored"
		}
		p.warnf(naming, "%s", message)
		other.desired.Variables += ", " + d.Variables
		p.add(other)
	}
}

// differing returns what a provider has that is not in the canonical hash and
// would be lost by folding it into the other.
func differing(into, from provider.Desired) []string {
	parts := differingCredentials(into, from)
	a, b := bedrockOf(into), bedrockOf(from)
	if a.Model != b.Model || a.SmallFastModel != b.SmallFastModel {
		parts = append(parts, "models")
	}
	return parts
}

func differingCredentials(a, b provider.Desired) (parts []string) {
	if !maps.Equal(keySet(a.Keys), keySet(b.Keys)) {
		parts = append(parts, "keys")
	}
	one, other := bedrockOf(a), bedrockOf(b)
	if !one.AccessKey.Equal(other.AccessKey) || !one.AccessKeySecret.Equal(other.AccessKeySecret) {
		parts = append(parts, "AWS credentials")
	}
	return parts
}

// bedrockOf returns what the provider has as a Bedrock one, nothing if it is none.
func bedrockOf(d provider.Desired) provider.Bedrock {
	if d.Bedrock == nil {
		return provider.Bedrock{}
	}
	return *d.Bedrock
}

func keySet(keys []secret.Text) map[string]bool {
	set := make(map[string]bool, len(keys))
	for _, k := range keys {
		set[k.Reveal()] = true
	}
	return set
}

// checkUntyped makes the checks that do not depend on the provider's type.
func (p *parser) checkUntyped(e *entry) {
	var discarded provider.Desired
	p.parseBearer(e, &discarded, "", "")
	p.parseBedrock(e, &discarded)
}
