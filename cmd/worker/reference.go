//go:build docs

// The command that writes documentation from the commands and flags as they are.
// It is built for "make generate" and "make dist" alone, so that the worker does
// not carry what it needs.

package main

import (
	"embed"
	"fmt"
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

// documented returns the commands, with nothing in them that depends on who runs
// the program.
func documented() *cobra.Command {
	root := newRootCommand()
	flag := root.PersistentFlags().Lookup("data-dir")
	flag.Usage = strings.ReplaceAll(flag.Usage, dataDirText(),
		"/var/lib/provwatch for root, $XDG_DATA_HOME/provwatch or ~/.local/share/provwatch for others")
	return root
}

// writeManPages writes worker.1 and a page for each command. Their date is that of
// SOURCE_DATE_EPOCH.
func writeManPages(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := documented()
	root.DisableAutoGenTag = true
	visit(root, func(c *cobra.Command) {
		c.Short, c.Long = markdown(c.Short), markdown(c.Long)
		// Those of the parents are visited with the parents.
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { f.Usage = markdown(f.Usage) })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Usage = markdown(f.Usage) })
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
	root := documented()
	data := struct {
		Flags           []flagRow
		Commands        []commandRow
		Legacy, Indexed []environment.Variable
		Prefix, Alias   string
		Fence           string

		KeysVariable, KeysFileVariable string
	}{Flags: flagRows(root), Fence: "```"}
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

func visit(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		visit(sub, do)
	}
}

// flagRows returns the flags by name, each with the commands that have it.
func flagRows(root *cobra.Command) []flagRow {
	flags := map[string]*pflag.Flag{}
	commands := map[string][]string{}
	note := func(command string) func(*pflag.Flag) {
		return func(f *pflag.Flag) {
			if f.Name != "help" && f.Name != "version" {
				flags[f.Name] = f
				commands[f.Name] = append(commands[f.Name], command)
			}
		}
	}
	root.PersistentFlags().VisitAll(note("all"))
	visit(root, func(c *cobra.Command) {
		if c.HasParent() && !c.Hidden {
			c.LocalNonPersistentFlags().VisitAll(note(strings.TrimPrefix(c.CommandPath(), "worker ")))
		}
	})
	var rows []flagRow
	for name, f := range flags {
		row := flagRow{Flag: "`--" + name + "`", Default: "`" + f.DefValue + "`", Meaning: f.Usage,
			Commands: strings.Join(slices.Sorted(slices.Values(commands[name])), ", "), Variable: "–"}
		if v := variableOf(name); v != "" {
			row.Variable = "`" + v + "`"
		}
		if f.Shorthand != "" {
			row.Flag += ", `-" + f.Shorthand + "`"
		}
		if f.DefValue == "" || name == "since" { // not given, --since is the latest alert
			row.Default = "–"
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b flagRow) int { return strings.Compare(a.Flag, b.Flag) })
	return rows
}
