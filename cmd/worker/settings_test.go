package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// documentedFlag is a row of the README's table of flags, without its meaning.
type documentedFlag struct {
	name, variable, value, commands string
}

func readmeFlags(t *testing.T) []documentedFlag {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## Flags\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var flags []documentedFlag
	for _, row := range regexp.MustCompile(`(?m)^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \| .+ \|$`).FindAllStringSubmatch(section, -1)[1:] {
		if !strings.HasPrefix(row[1], "---") {
			flags = append(flags, documentedFlag{row[1], row[2], row[3], row[4]})
		}
	}
	return flags
}

// actualFlags returns what the table must hold, in its order.
func actualFlags() []documentedFlag {
	root := newRootCommand()
	commands := map[string][]string{} // by flag, "" for one of all commands
	flags := map[string]*pflag.Flag{}
	note := func(command string) func(*pflag.Flag) {
		return func(f *pflag.Flag) {
			if f.Name != "help" && f.Name != "version" {
				flags[f.Name] = f
				commands[f.Name] = append(commands[f.Name], command)
			}
		}
	}
	root.PersistentFlags().VisitAll(note("all"))
	for _, c := range root.Commands() {
		c.LocalNonPersistentFlags().VisitAll(note(c.Name()))
	}
	var list []documentedFlag
	for name, f := range flags {
		row := documentedFlag{
			name: "`--" + name + "`", variable: "`" + variableOf(name) + "`", value: "`" + f.DefValue + "`",
			commands: strings.Join(slices.Sorted(slices.Values(commands[name])), ", "),
		}
		if variableOf(name) == "" {
			row.variable = "–"
		}
		if f.Shorthand != "" {
			row.name += ", `-" + f.Shorthand + "`"
		}
		if f.DefValue == "" {
			row.value = "–"
		}
		list = append(list, row)
	}
	slices.SortFunc(list, func(a, b documentedFlag) int { return strings.Compare(a.name, b.name) })
	return list
}

func TestSettings(t *testing.T) {
	t.Run("README", testSettingsREADME)
	t.Run("Targets", testSettingsTargets)
	t.Run("WorkerAlone", testSettingsWorkerAlone)
	t.Run("Variable", testSettingsVariable)
	t.Run("UnknownVariable", testSettingsUnknownVariable)
	t.Run("Defaults", testSettingsDefaults)
}

// testSettingsDefaults compares the defaults of the table with the values that they set: the
// help prints the former.
func testSettingsDefaults(t *testing.T) {
	for _, s := range newFlags().settings() {
		if s.initial != "" {
			require.Equal(t, s.initial, s.value.String(), s.name)
			require.Empty(t, s.value.problem(), s.name)
		}
		require.False(t, s.has(perTarget) && s.has(perCall), "%s: a field of a file is not of one call", s.name)
	}
}

// testSettingsREADME compares the table of the README with the flags of the commands.
func testSettingsREADME(t *testing.T) {
	require.Equal(t, actualFlags(), readmeFlags(t))
}

// testSettingsTargets compares the fields of a target that docs/targets.md lists with the
// settings that a target can have, and its commands with the commands that have a target.
func testSettingsTargets(t *testing.T) {
	text, err := os.ReadFile("../../docs/targets.md")
	require.NoError(t, err)
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^\| ((?:`+"`[a-z_]+`"+`(?:, )?)+) \|`).FindAllSubmatch(text, -1) {
		for name := range strings.SplitSeq(string(row[1]), ", ") {
			listed = append(listed, strings.Trim(name, "`"))
		}
	}
	for _, s := range newFlags().settings() {
		if s.has(perTarget) {
			require.Contains(t, listed, strings.ReplaceAll(s.name, "-", "_"))
		}
	}

	_, sentence, found := strings.Cut(string(text), "The other commands work on one of the targets:")
	require.True(t, found)
	sentence, _, _ = strings.Cut(sentence, "\n\n")
	var without []string
	for _, c := range newRootCommand().Commands() {
		if !strings.Contains(sentence, "`"+c.Name()+"`") && !strings.Contains(sentence, "`worker "+c.Name()+" ") {
			without = append(without, c.Name())
		}
	}
	require.ElementsMatch(t, []string{"run", "roles", "version", "help", "completion"}, without, "which have no target")
}

// testSettingsWorkerAlone compares the flags of "worker" alone with those of "worker run".
func testSettingsWorkerAlone(t *testing.T) {
	root := newRootCommand()
	run, _, err := root.Find([]string{"run"})
	require.NoError(t, err)
	names := func(c *cobra.Command) (list []string) {
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && f.Name != "version" {
				list = append(list, f.Name+"="+f.DefValue)
			}
		})
		return list
	}
	require.NotEmpty(t, names(run))
	require.Equal(t, names(run), names(root))
}

func testSettingsVariable(t *testing.T) {
	for name, c := range map[string]struct {
		variable string
		args     []string
		want     string
		problem  string
	}{
		"not set":     {want: "5m0s"},
		"empty":       {variable: "", want: "5m0s"},
		"set":         {variable: "7m", want: "7m0s"},
		"a flag wins": {variable: "7m", args: []string{"--resync", "9m"}, want: "9m0s"},
		"not usable":  {variable: "soon", problem: "PROVWATCH_RESYNC cannot be used for --resync: want a duration, such as 30s"},
		"no unit":     {variable: "5", problem: "PROVWATCH_RESYNC cannot be used for --resync: want a duration with its unit, such as 5s"},
		"a secret":    {variable: "1234567890", problem: "PROVWATCH_RESYNC cannot be used for --resync: want a duration, such as 30s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PROVWATCH_RESYNC", c.variable)
			root := newRootCommand()
			run, _, err := root.Find([]string{"run"})
			require.NoError(t, err)
			require.NoError(t, run.ParseFlags(c.args))
			err = setFromEnvironment(run.Flags())
			if c.problem != "" {
				require.EqualError(t, err, c.problem)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, run.Flags().Lookup("resync").Value.String())
		})
	}
}

func testSettingsUnknownVariable(t *testing.T) {
	unknown := unknownVariables([]string{
		"PROVWATCH_LOGLEVEL=debug", "PROVWATCH_WEBHOOK_URLL=https://h/", "PROVWATCH_RESYNC=5m", "PROVWATCH_TAKEN=", "HOME=/",
	})
	require.Equal(t, []unknownVariable{
		{"PROVWATCH_LOGLEVEL", "PROVWATCH_LOG_LEVEL"}, {"PROVWATCH_WEBHOOK_URLL", "PROVWATCH_WEBHOOK_URL"},
	}, unknown)
}
