package main

import (
	"os"
	"path/filepath"
	"strings"

	"provwatch/internal/drift"
	"provwatch/internal/remedy"
)

// site is how commands of messages are typed for the database of these flags.
func (f *flags) site() remedy.Site {
	if f.target != nil {
		return f.target.site()
	}
	return remedy.Site{Program: program(), Settings: f.ownSettings(), Tolerating: f.tolerating()}
}

// site is how commands of messages are typed for the target.
func (t *fileTarget) site() remedy.Site {
	return remedy.Site{
		Program: program(), Target: &remedy.Target{Name: t.Name, File: t.flags.config},
		Settings: t.settings, Tolerating: t.flags.tolerating(),
	}
}

// textOf returns the text of an error with its remedies rendered for these flags.
func (f *flags) textOf(err error) string {
	if len(remedy.Of(err)) == 0 {
		return err.Error()
	}
	return f.site().Text(err)
}

// ownSettings returns the flags with which a command works on the same database and
// providers. They include the flags set by a variable, which the shell of the command need
// not have. The database of DATABASE_URL or PG* variables is not among them.
func (f *flags) ownSettings() (words []string) {
	for _, s := range f.settings() {
		if !s.has(repeated) || !s.isSet() {
			continue
		}
		if s.name == "data-dir" {
			if database, err := f.configuredDatabase(); database != nil || err != nil || f.config != "" {
				continue
			}
		}
		words = append(words, "--"+s.name, s.value.String())
	}
	return words
}

// tolerating returns the flags without which a start would ignore some of the drifts that
// it tolerates.
func (f *flags) tolerating() []string {
	if f.requiresCredentials() && f.credentials == drift.IgnoreCredentials {
		return []string{"--credential-drift=alert"}
	}
	return nil
}

// program returns how a shell calls this program. A relative path stays: the program of
// "make run" is hardly on the PATH.
func program() string {
	if strings.Contains(os.Args[0], "/") && !filepath.IsAbs(os.Args[0]) {
		return os.Args[0]
	}
	return "worker"
}
