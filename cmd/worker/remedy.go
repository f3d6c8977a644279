package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"provwatch/internal/drift"
	"provwatch/internal/seed"
)

// plainWord is what no shell takes for anything else.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./][A-Za-z0-9_./-]*$`)

// quoted returns a word as a shell takes it.
func quoted(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// ownFlags returns the flags, each after a space, with which a command works on the same
// database and providers as this one. They include those set by a variable: the shell
// that a command of a message is typed into need not have it. The database of
// DATABASE_URL or PG* variables is not among them.
func (f *flags) ownFlags() string {
	var text strings.Builder
	for _, s := range f.settings() {
		if !s.has(repeated) || !s.isSet() {
			continue
		}
		if s.name == "data-dir" {
			if database, err := f.configuredDatabase(); database != nil || err != nil || f.config != "" {
				continue
			}
		}
		fmt.Fprintf(&text, " --%s %s", s.name, quoted(s.value.String()))
	}
	return text.String()
}

// program returns how the shell that a command of a message is typed into calls
// this program: by its relative path where it was called by one, which "make run"
// does, since it is then hardly on the PATH.
func program() string {
	if strings.Contains(os.Args[0], "/") && !filepath.IsAbs(os.Args[0]) {
		return quoted(os.Args[0])
	}
	return "worker"
}

// remedies are the ways out of a drift at the start.
func (f *flags) remedies() seed.Remedies {
	if f.target != nil {
		return f.target.remedies()
	}
	own := f.ownFlags()
	tolerate := " --on-boot-drift=alert"
	if f.requiresCredentials() && f.credentials == drift.IgnoreCredentials {
		tolerate += " --credential-drift=alert" // without which it would ignore some
	}
	return seed.Remedies{Command: program(), Flags: own, Tolerate: `"` + program() + ` run` + tolerate + own + `"`}
}

// remedies are those of a target, which the worker starts again by itself.
func (t *fileTarget) remedies() seed.Remedies {
	field := "on_boot_drift: alert"
	if t.flags.requiresCredentials() && t.flags.credentials == drift.IgnoreCredentials {
		field += " and credential_drift: alert"
	}
	return seed.Remedies{
		Command:  program(),
		Flags:    t.commandFlags() + t.more,
		Tolerate: fmt.Sprintf("%s for the target %s in %s", field, t.Name, t.flags.config),
	}
}
