package environment

import (
	"fmt"

	"provwatch/internal/provider"
	"provwatch/internal/suggest"
)

// parser collects what it finds instead of stopping at the first error. One goroutine
// uses it, for one call of [Parse].
type parser struct {
	prefixes  prefixes
	errors    []Finding
	warnings  []Finding
	providers map[string]namedProvider // the providers so far, by name
	skipped   []string                 // as [Environment.Skipped]
	refused   map[string]bool          // variables whose value holds a control character
	files     *files                   // reads the files that variables name
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

// reportDuplicates reports the field when it is set to several values, or spelt in
// several ways. The other checks use the first variable in name order.
func (p *parser) reportDuplicates(e *entry, field string) {
	for _, d := range e.duplicates[field] {
		switch {
		case d.combined:
			p.errorf(d.variable, "cannot be combined with %s; remove one of them", e.nameOf(field))
		case d.respelt:
			p.errorf(d.variable, "spells the field of %s in another way; remove one of them", e.nameOf(field))
		default:
			p.errorf(d.variable, "is set to another value than %s, which means the same; remove one of them", e.nameOf(field))
		}
	}
}

func (p *parser) reportUnknown(e *entry) {
	for _, u := range e.unknown {
		p.warnf(u.variable, "is not a known field and is ignored; the nearest known one is %s", suggest.Nearest(u.field, e.parsed.nearby()))
	}
}
