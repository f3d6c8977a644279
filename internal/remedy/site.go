package remedy

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// Site is a process and its database. It renders commands that a shell can run. The zero value is a process without flags.
type Site struct {
	Program string // how a shell calls this program; empty for "worker"
	// Target is the target of --config, nil without one.
	Target *Target
	// Settings are the flags with which a command sees the same database and providers. The
	// shell need not have the variables of this process.
	Settings []string
	// Tolerating are further flags with which "run" reports all that it tolerates.
	Tolerating []string
}

// Target is a target in the file of --config.
type Target struct{ Name, File string }

// inFile reports whether the remedy is a change of the file of --config: its targets have
// no "run" of their own.
func (s Site) inFile(r Remedy) bool { return s.Target != nil && r.Command == "run" }

// Render returns a remedy as a text.
func (s Site) Render(r Remedy) string {
	switch {
	case r.variables && s.Target != nil:
		return "set CODER_AIBRIDGE_* variables in the target's env_file, or variables that begin with its env_prefix"
	case r.variables:
		return "set CODER_AIBRIDGE_* variables, or --env-file"
	case s.inFile(r):
		return fmt.Sprintf("%s for the target %s in %s", fields(append(r.Args, s.Tolerating...)), s.Target.Name, s.Target.File)
	}
	line := []string{Quote(cmp.Or(s.Program, "worker")), r.Command}
	add := func(words []string) {
		for _, word := range words {
			line = append(line, Quote(word))
		}
	}
	add(r.Args)
	if r.Command == "run" {
		add(s.Tolerating)
	}
	if s.Target != nil {
		add([]string{"--config", s.Target.File, "--target", s.Target.Name})
	}
	if r.Command == "run" || r.Command == "resolve" { // the commands that compare
		add(s.Settings)
	}
	return strings.Join(line, " ")
}

// fields returns flags as the fields of a target.
func fields(flags []string) string {
	list := make([]string, len(flags))
	for i, flag := range flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		list[i] = strings.ReplaceAll(name, "-", "_") + ": " + value
	}
	return strings.Join(list, " and ")
}

// plainWord is a word that no shell changes.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./-][A-Za-z0-9_./=-]*$`)

// Quote returns a word as a shell takes it.
func Quote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
