package environment

import (
	"strings"

	"provwatch/internal/regularfile"
)

// readFile gives the field the content of the file that its variable names, if the variable
// names one: without one line break at its end, which an editor leaves there.
func (p *parser) readFile(e *entry, field string) {
	v, ok := e.set(field)
	if !ok || !v.inFile {
		return
	}
	path := v.value
	content, err := p.files.read(path)
	v.value = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	clear(content)
	switch {
	case err != nil:
		p.errorf(v.name, "the file %s cannot be read: %v", regularfile.Shown(path), regularfile.Cause(err))
		v.unread = true
	case v.value == "":
		p.errorf(v.name, "the file %s is empty; write the secret into it, or remove this variable", regularfile.Shown(path))
		v.unread = true
	}
	e.fields[field] = v
}
