//go:build docs

// The command that writes documentation from the commands and settings.
// It is built for "make generate" and "make dist" alone, so that the worker does
// not carry what it needs.

package main

import (
	"cmp"
	"embed"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/environment"
)

//go:embed configuration.md.tmpl
var templates embed.FS

func init() {
	more = func(root *cobra.Command) {
		hidden := &cobra.Command{Use: "docs", Hidden: true}
		hidden.AddCommand(
			&cobra.Command{Use: "man DIR", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
				return writeManPages(args[0])
			}},
			&cobra.Command{Use: "configuration FILE", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
				return writeConfiguration(args[0])
			}},
		)
		root.AddCommand(hidden)
	}
}

// impersonal returns a usage in which nothing depends on the user who runs the program.
func impersonal(usage string) string {
	return strings.ReplaceAll(usage, dataDirText(),
		"/var/lib/provwatch for root, $XDG_DATA_HOME/provwatch or ~/.local/share/provwatch for others")
}

// writeManPages writes worker.1 and a page for each command. Their date is that of
// SOURCE_DATE_EPOCH.
func writeManPages(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := newRootCommand()
	root.DisableAutoGenTag = true
	visit(root, func(c *cobra.Command) {
		c.Short, c.Long = markdown(c.Short), markdown(c.Long)
		// Those of the parents are visited with the parents.
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { f.Usage = markdown(impersonal(f.Usage)) })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Usage = markdown(impersonal(f.Usage)) })
	})
	return doc.GenManTree(root, &doc.GenManHeader{
		Title: "WORKER", Section: "1", Source: "provwatch " + buildInfo().Version, Manual: "provwatch",
	}, dir)
}

// markdown returns the markdown of which a plain text is made, since that is what
// man pages are written from: CODER_AIBRIDGE_* would be an emphasis. Indented lines
// stay as they are.
func markdown(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "  ") {
			lines[i] = "  " + line // four spaces are code, in which nothing is escaped
			continue
		}
		lines[i] = special.Replace(line)
	}
	return strings.Join(lines, "\n")
}

var special = strings.NewReplacer(`\`, `\\`, "`", "\\`", `*`, `\*`, `_`, `\_`, `[`, `\[`, `]`, `\]`, `<`, `\<`, `>`, `\>`, `&`, `\&`, `~`, `\~`)

type flagRow struct{ Flag, Variable, Default, Commands, Meaning string }

type commandRow struct{ Use, Short string }

func writeConfiguration(file string) error {
	root := newRootCommand()
	data := struct {
		Flags           []flagRow
		Commands        []commandRow
		Legacy, Indexed []environment.Variable
		Prefix, Alias   string
		Fence           string

		KeysVariable, KeysFileVariable string
	}{Flags: flagRows(), Fence: "```"}
	data.Legacy, data.Indexed = environment.Variables()
	data.Prefix, data.Alias = environment.Prefixes()
	data.KeysVariable, data.KeysFileVariable = dbcrypt.KeysVariable, dbcrypt.KeysFileVariable
	visit(root, func(c *cobra.Command) {
		if c.HasParent() && c.IsAvailableCommand() && !c.HasSubCommands() && !c.Parent().Hidden {
			parent, _, _ := strings.Cut(c.CommandPath(), " "+c.Name())
			data.Commands = append(data.Commands, commandRow{parent + " " + c.Use, c.Short})
		}
	})
	page, err := template.New("configuration.md.tmpl").Funcs(template.FuncMap{"cell": cell}).ParseFS(templates, "configuration.md.tmpl")
	if err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := page.Execute(out, data); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return out.Close()
}

// cell makes a text one of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// flagRows returns the flags by name, each with the commands that have it.
func flagRows() []flagRow {
	rows := map[string]flagRow{}
	commands := map[string][]string{}
	for _, s := range newFlags().settings() {
		row := flagRow{Flag: "`--" + s.name + "`", Default: "–", Meaning: impersonal(s.usage), Variable: "–"}
		if variable := s.variable(); variable != "" {
			row.Variable = "`" + variable + "`"
		}
		if s.letter != "" {
			row.Flag += ", `-" + s.letter + "`"
		}
		if shown := cmp.Or(s.initial, s.shown); shown != "" {
			row.Default = "`" + shown + "`"
		}
		if former := rows[s.name].Meaning; former != "" && former != row.Meaning {
			row.Meaning = former + "; " + strings.Join(s.commands, ", ") + ": " + row.Meaning
		} else if len(s.commands) > 0 && repeats(s.name) {
			row.Meaning = strings.Join(s.commands, ", ") + ": " + row.Meaning
		}
		commands[s.name] = append(commands[s.name], s.commands...)
		row.Commands = cmp.Or(strings.Join(slices.Sorted(slices.Values(commands[s.name])), ", "), "all")
		rows[s.name] = row
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b flagRow) int { return strings.Compare(a.Flag, b.Flag) })
}

// repeats reports whether several commands have a flag of the name with meanings of their own.
func repeats(name string) bool {
	n := 0
	for _, s := range newFlags().settings() {
		if s.name == name {
			n++
		}
	}
	return n > 1
}
