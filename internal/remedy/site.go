package remedy

import (
	"cmp"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
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

// isSetting reports whether the remedy is a flag of the worker.
func (r Remedy) isSetting() bool { return r.Command == "" && r.kind == ofCommand }

// sentence names where a process has what the remedy checks or sets: in its own variables
// and flags, or in the file of --config, with which DATABASE_URL must not be set.
type sentence struct{ ofProcess, ofTarget string }

var sentences = map[kind]sentence{
	ofProviders: {
		"set CODER_AIBRIDGE_* variables, or --env-file",
		"set CODER_AIBRIDGE_* variables in the target's env_file, or variables that begin with its env_prefix",
	},
	ofConnection: {
		"check DATABASE_URL (or --database-url-file, or PG*), that the server runs, and --connect-timeout",
		"check the target's database in the file of --config, that the server runs, and --connect-timeout",
	},
	ofUser: {
		"check the user in DATABASE_URL (or PGUSER), and that its role is there and has LOGIN",
		"check the user in the target's database_url_env, database_url_file or database (or PGUSER), and that its role is there and has LOGIN",
	},
	ofPassword: {
		"check the user and the password of DATABASE_URL (or PGUSER, PGPASSWORD and PGPASSFILE)",
		"check the user and the password of the target's database: those of its database_url_env or database_url_file, else PGUSER, PGPASSWORD and PGPASSFILE",
	},
	ofDatabase: {
		"check the database's name in DATABASE_URL (or PGDATABASE)",
		"check the database's name in the target's database_url_env, database_url_file or database",
	},
}

// inFile reports whether the remedy is a change of the file of --config, which has the
// settings of its targets. They have no "run" of their own.
func (s Site) inFile(r Remedy) bool {
	return s.Target != nil && (r.Command == "run" || r.isSetting())
}

// Render returns a remedy as a text.
func (s Site) Render(r Remedy) string {
	said, isSentence := sentences[r.kind]
	switch {
	case isSentence && s.Target != nil:
		return said.ofTarget
	case isSentence:
		return said.ofProcess
	case s.inFile(r):
		flags := r.Args
		if r.Command == "run" {
			flags = append(slices.Clone(flags), s.Tolerating...)
		}
		return fmt.Sprintf("%s for the target %s in %s", fields(flags), s.Target.Name, s.Target.File)
	case r.Command == "":
		return strings.Join(r.Args, " ")
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
	switch r.Command {
	case "run", "resolve", "apply": // the commands that compare
		add(s.Settings)
	}
	return strings.Join(line, " ")
}

// fields returns flags as the fields of a target.
func fields(flags []string) string {
	list := make([]string, len(flags))
	for i, flag := range flags {
		name, value, found := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		list[i] = strings.ReplaceAll(name, "-", "_")
		if found {
			list[i] += ": " + value
		}
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

// String renders a remedy for a process without flags.
func (r Remedy) String() string { return Site{}.Render(r) }

// LogValue renders a remedy as [Remedy.String] does, for handlers that know no site.
func (r Remedy) LogValue() slog.Value { return slog.StringValue(r.String()) }

// quoted returns a rendered remedy as texts hold it: a command in quotation marks.
func (s Site) quoted(r Remedy) string {
	text := s.Render(r)
	if r.Command == "" || s.inFile(r) {
		return text
	}
	return `"` + text + `"`
}

// Quoted renders a remedy in quotation marks, for the text of an error whose Remedies
// method returns it.
func (r Remedy) Quoted() string { return Site{}.quoted(r) }

// String renders the advice for a process without flags.
func (a Advice) String() string { return Site{}.Advice(a) }

// LogValue renders an advice as [Advice.String] does, for handlers that know no site.
func (a Advice) LogValue() slog.Value { return slog.StringValue(a.String()) }

// Advice returns the text of an advice with its remedies rendered for the site.
func (s Site) Advice(advice Advice) string {
	var text strings.Builder
	for _, part := range advice {
		switch part := part.(type) {
		case Remedy:
			text.WriteString(s.Render(part))
		case string:
			text.WriteString(part)
		}
	}
	return text.String()
}
