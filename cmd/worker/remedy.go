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
	site := remedy.Site{Program: program(), Tolerating: f.tolerating()}
	if f.target != nil {
		site.Target, site.Settings = &remedy.Target{Name: f.target.Name, File: f.config}, f.commandLine
	} else {
		site.Settings = f.ownSettings()
	}
	return site
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
		if s.name == "data-dir" && (f.namesDatabase() || f.config != "") {
			continue
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
