//go:build e2e

package golden

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/workertest"
)

// helpOf returns the help of all commands, by their words, "" for the program's own.
func helpOf(t *testing.T, w *world) map[string]string {
	t.Helper()
	// The default of --data-dir is another one for root.
	w.replace("/var/lib/provwatch", "<data folder>")
	w.replace("<home>/.local/share/provwatch", "<data folder>")
	help := map[string]string{}
	var visit func(words ...string)
	visit = func(words ...string) {
		r := w.run(nil, append(slices.Clone(words), "--help")...)
		require.Equal(t, 0, r.Code, "%q: %s", words, r.Stderr)
		require.Empty(t, r.Stderr)
		help[strings.Join(words, " ")] = w.text(r.Stdout)
		_, list, found := strings.Cut(r.Stdout, "\nAvailable Commands:\n")
		if !found {
			return
		}
		list, _, _ = strings.Cut(list, "\n\n")
		for line := range strings.Lines(list) {
			visit(append(slices.Clone(words), strings.Fields(line)[0])...)
		}
	}
	visit()
	require.Greater(t, len(help), 10)
	return help
}

// helpFlag is a flag as the help has it.
type helpFlag struct {
	name, short, value, deflt string
	commands                  []string // whose own flag it is
	global                    bool     // all commands have it
}

var (
	flagLine = regexp.MustCompile(`(?m)^ +(?:-(\w), )?--([\w-]+)(?: (\S+))?  +(.+)$`)
	deflt    = regexp.MustCompile(`\(default:? (.+)\)$`)
)

// flagsOf returns the flags of all commands, by name.
func flagsOf(t *testing.T, help map[string]string) map[string]*helpFlag {
	t.Helper()
	flags := map[string]*helpFlag{}
	for _, command := range slices.Sorted(maps.Keys(help)) {
		_, own, _ := strings.Cut(help[command], "\nFlags:\n")
		own, global, _ := strings.Cut(own, "\nGlobal Flags:\n")
		for _, m := range flagLine.FindAllStringSubmatch(global, -1) {
			require.Contains(t, flags, m[2], "a flag of all commands is one of worker alone")
			flags[m[2]].global = true
		}
		for _, m := range flagLine.FindAllStringSubmatch(own, -1) {
			f := helpFlag{short: m[1], name: m[2], value: m[3], deflt: "–"}
			if d := deflt.FindStringSubmatch(m[4]); d != nil {
				f.deflt = strings.Trim(d[1], `"`)
			}
			before := flags[f.name]
			if before == nil {
				flags[f.name], before = &f, &f
			}
			require.Equal(t, before.value+before.deflt, f.value+f.deflt, "--%s of worker %s differs from that of others", f.name, command)
			before.commands = append(before.commands, strings.TrimSpace("worker "+command))
		}
	}
	require.Greater(t, len(flags), 30)
	return flags
}

// variableOf returns what the variable of a flag is called, if it has one.
func variableOf(flag string) string {
	return "PROVWATCH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// takesVariable reports whether the worker knows the variable.
func takesVariable(w *world, variable string) bool {
	return !strings.Contains(w.run(environ{variable: "x"}, "version").Stderr, "the variable belongs to no flag and has no effect\" variable="+variable+" ")
}

func TestHelp(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	help := helpOf(t, w)
	for command, text := range help {
		name := "worker"
		if command != "" {
			name += "-" + strings.ReplaceAll(command, " ", "-")
		}
		compare(t, "help/"+name+".txt", text)
	}
	require.Equal(t, help["sinks retry"], w.text(w.run(nil, "help", "sinks", "retry").Stdout))

	flags := flagsOf(t, help)
	require.False(t, takesVariable(w, "PROVWATCH_NO_SUCH_FLAG"), "a variable that no flag has is reported")
	var list, completions strings.Builder
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		f := flags[name]
		if name == "help" || name == "version" {
			continue
		}
		spelt, variable := "--"+name, "no variable"
		if f.short != "" {
			spelt += ", -" + f.short
		}
		if f.value != "" {
			spelt += " VALUE"
		}
		if takesVariable(w, variableOf(name)) {
			variable = variableOf(name)
		}
		of := strings.Join(f.commands, ", ")
		if f.global {
			of = "all commands"
		}
		fmt.Fprintf(&list, "%s\n  %s\n  default: %s\n  of: %s\n", spelt, variable, f.deflt, of)
		if f.value == "" {
			continue
		}
		command := strings.Fields(f.commands[len(f.commands)-1])[1:]
		fmt.Fprintf(&completions, "--%s\n%s", name, indented(w.text(w.run(nil, append(append([]string{"__complete"}, command...), "--"+name, "")...).Stdout)))
	}
	compare(t, "flags.txt", list.String())
	fmt.Fprintf(&completions, "the first argument of resolve\n%s", indented(w.run(workertest.TwoProviders(), "__complete", "resolve", "").Stdout))
	fmt.Fprintf(&completions, "the first argument of completion\n%s", indented(w.run(nil, "__complete", "completion", "").Stdout))
	compare(t, "completion.txt", completions.String())
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}
