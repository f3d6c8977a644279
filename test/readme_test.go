//go:build e2e

package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"provwatch/internal/embedded"
)

// tourCommand is a command of the README's tour and what it prints.
type tourCommand struct {
	line string
	want []string // "…" stands for one character or more
}

// tourCommands parses the console blocks of a section.
func tourCommands(t *testing.T, section string) []tourCommand {
	t.Helper()
	require.NotRegexp(t, "(?m)^```(sh|bash|sql|text)", section, "every block of the tour is a console block, which is run")
	var commands []tourCommand
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(section, -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimRight(line, " \n")
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands = append(commands, tourCommand{line: command})
				continue
			}
			require.NotEmpty(t, commands, "output before the first command")
			last := &commands[len(commands)-1]
			last.want = append(last.want, line)
		}
	}
	return commands
}

// mismatch says how the output differs from what the README shows, else it is
// empty. White space at the end of a line does not count.
func (c tourCommand) mismatch(output string) string {
	var got []string
	for line := range strings.Lines(output) {
		got = append(got, strings.TrimRight(line, " \n"))
	}
	matches := slices.EqualFunc(c.want, got, func(want, got string) bool {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".+")
		return regexp.MustCompile("^" + pattern + "$").MatchString(got)
	})
	if matches {
		return ""
	}
	return fmt.Sprintf("$ %s\nprinted:\n%s\nbut the README shows:\n%s", c.line, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
}

// readmeSection returns the text below a heading of the README.
func readmeSection(t *testing.T, heading string) string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n"+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

func TestREADME(t *testing.T) {
	t.Parallel()
	t.Run("Tour", testREADMETour)
	t.Run("WrongTourIsNoticed", testREADMEWrongTourIsNoticed)
	t.Run("ExamplePayloads", testREADMEExamplePayloads)
}

func testREADMETour(t *testing.T) {
	t.Parallel()
	needsInstalledServer(t)
	commands := tourCommands(t, readmeSection(t, "## A 60-second tour"))
	require.Greater(t, len(commands), 10)

	outputs := runTour(t, commands)
	for i, c := range commands {
		if difference := c.mismatch(outputs[i]); difference != "" {
			t.Error(difference)
		}
		// A wrong README would have been noticed.
		more, less := c, c
		more.want = append(slices.Clone(c.want), "…")
		require.NotEmpty(t, more.mismatch(outputs[i]))
		if len(c.want) > 0 {
			less.want = c.want[:len(c.want)-1]
			require.NotEmpty(t, less.mismatch(outputs[i]))
		}
	}
}

// untilItPrints repeats a command that timeout has ended before it printed anything: on a
// busy machine its start can take that long.
func untilItPrints(line string) string {
	return fmt.Sprintf(`tries=0
while printed=$(%s); tour_status=$?; [ -z "$printed" ] && [ $tries -lt 24 ]; do tries=$((tries + 1)); done
printf '%%s\n' "$printed"; (exit $tour_status)`, line)
}

// awaits are what commands of the tour wait for on a busy machine, where a person would wait for a
// moment.
var awaits = []struct{ command, waits string }{
	// The notification comes with the row, and the session gets it when the statement ends.
	{"PERFORM pg_sleep(3);", `WHILE NOT EXISTS (SELECT FROM provwatch.drift_alerts WHERE seq = 2) LOOP PERFORM pg_sleep(0.1); END LOOP; PERFORM pg_sleep(1);`},
	{"worker resolve demo-bedrock --take db", "worker resolve demo-bedrock --take db\n" + untilThereAre("drift_alerts", 3)},
	{"sleep 2", untilThereAre("drift_alerts", 4) + "\n" + untilThereAre("audit_log", 5)},
}

// untilThereAre waits until a table of provwatch has as many rows.
func untilThereAre(table string, rows int) string {
	return fmt.Sprintf(`tries=0
until [ "$(psql -At -c 'SELECT count(*) FROM provwatch.%s')" -ge %d ] || [ $tries -ge 600 ]; do tries=$((tries + 1)); sleep 0.1; done`, table, rows)
}

// runTour runs the commands in one shell, in a folder that looks like the
// repository after "make build", and returns what each printed.
func runTour(t *testing.T, commands []tourCommand) []string {
	t.Helper()
	// Not t.TempDir, which is closed to the user that PostgreSQL runs as.
	dir, err := os.MkdirTemp("", "provwatch-tour-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	require.NoError(t, os.Symlink(workerBinary, filepath.Join(dir, "bin", "worker")))
	deploy, err := filepath.Abs("../deploy")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(deploy, filepath.Join(dir, "deploy")))

	const mark = "\x1e"
	var script strings.Builder
	waits := 0
	for _, c := range commands {
		line := c.line
		if strings.HasPrefix(line, "timeout ") {
			line = untilItPrints(line)
		}
		for _, a := range awaits {
			waits += strings.Count(line, a.command)
			line = strings.Replace(line, a.command, a.waits, 1)
		}
		// Between two commands, $? stays as it is.
		fmt.Fprintf(&script, "tour_status=$?; printf '%s'; (exit $tour_status)\n%s\n", mark, line)
	}
	require.Equal(t, len(awaits), waits, "the tour has each of these commands once")
	binDir, err := embedded.FindBinDir(t.Context(), 0)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience) // of the whole tour
	defer cancel()
	shell := exec.CommandContext(ctx, "sh", "-c", script.String())
	shell.Dir = dir
	shell.Env = []string{
		"PATH=" + os.Getenv("PATH") + ":" + binDir, // of psql
		"HOME=" + dir, "TMPDIR=" + dir, "LC_ALL=C", raceOptions,
	}
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGTERM) }
	shell.WaitDelay = patience

	printed, err := os.Create(filepath.Join(dir, "printed"))
	require.NoError(t, err)
	defer func() { _ = printed.Close() }()
	shell.Stdout, shell.Stderr = printed, printed
	runErr := shell.Run()
	// A tour that broke off left its worker behind.
	_ = syscall.Kill(-shell.Process.Pid, syscall.SIGTERM)

	all, err := os.ReadFile(printed.Name())
	require.NoError(t, err)
	log, _ := os.ReadFile(filepath.Join(dir, "worker.log"))
	require.NoError(t, runErr, "%s\nworker.log:\n%s", all, log)
	require.NotContains(t, string(log), "DATA RACE")
	if t.Failed() {
		t.Logf("worker.log:\n%s", log)
	}
	outputs := strings.Split(string(all), mark)[1:]
	require.Len(t, outputs, len(commands))
	return outputs
}

func testREADMEWrongTourIsNoticed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		want   []string
		output string
		same   bool
	}{
		"equal":                  {[]string{"a", "b"}, "a\nb\n", true},
		"no output":              {nil, "", true},
		"space at the end":       {[]string{"a"}, "a  \n", true},
		"a volatile part":        {[]string{"pid …, done"}, "pid 4711, done\n", true},
		"an empty volatile part": {[]string{"pid …, done"}, "pid , done\n", false},
		"another line":           {[]string{"a"}, "b\n", false},
		"more output":            {[]string{"a"}, "a\nb\n", false},
		"less output":            {[]string{"a", "b"}, "a\n", false},
		"unexpected output":      {nil, "sh: x: not found\n", false},
		"a pattern is text":      {[]string{"a.c"}, "abc\n", false},
	} {
		require.Equal(t, c.same, tourCommand{want: c.want}.mismatch(c.output) == "", name)
	}
}

func testREADMEExamplePayloads(t *testing.T) {
	t.Parallel()
	section := readmeSection(t, "## Channels")
	schemas := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| .(\w+). \| \[\w+\.json\]\((docs/schemas/\w+\.json)\)`).FindAllStringSubmatch(section, -1) {
		schemas[row[1]] = row[2]
	}
	require.Len(t, schemas, 4)
	examples := regexp.MustCompile("`(\\w+)`:\n\n```json\n((?:.+\n)+?)```").FindAllStringSubmatch(section, -1)
	require.Len(t, examples, 4)
	for _, example := range examples {
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		schema, err := compiler.Compile(filepath.Join("..", schemas[example[1]]))
		require.NoError(t, err)
		for line := range strings.Lines(example[2]) {
			payload, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
			require.NoError(t, err)
			require.NoError(t, schema.Validate(payload), example[1])
		}
	}
}
