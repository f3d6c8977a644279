// Package environment turns environment variables and files into desired providers
// (docs/specification.md, section 1).
package environment

import (
	"slices"

	"strconv"
	"strings"
	"unicode"

	"github.com/dustin/go-humanize/english"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/regularfile"
)

// Environment is the provider configuration that the environment variables ask
// for (docs/specification.md, section 1).
type Environment struct {
	Providers []provider.Desired // in name order, one a name
	// Skipped are the names of entries of an unknown type, which a newer gateway can know.
	Skipped  []string
	Warnings []Finding // the environment file first, legacy variables, then by index and variable
	// FileVariables is how many provider variables the environment file sets, whether
	// or not the process sets them too; 0 without a file.
	FileVariables int
	// Keys encrypt and decrypt stored secrets.
	Keys dbcrypt.Keys
	// Files are the files that were read, or could not be: the environment file, those of
	// secrets that variables name, and that of the keys. They are there beside an error too.
	Files []regularfile.Snapshot
}

// Names returns all names that the environment gives to providers, of whatever type.
func (e Environment) Names() []string { return slices.Concat(provider.Names(e.Providers), e.Skipped) }

// Finding is an error or a warning about one variable. It never holds the value of
// a variable, secret or not: a key can be pasted anywhere.
type Finding struct {
	// Variable is the name as it was spelt, or the path of the environment file for a
	// finding about the file or its lines.
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
