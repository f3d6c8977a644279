package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func readDeploy(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(repository, "deploy", name))
	require.NoError(t, err)
	return string(content)
}

// settings returns the NAME=value lines of a file.
func settings(text string) (list []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "=") && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

func TestTheUnitStartsTheWorkerAndItsEnvironmentIsTheWorkers(t *testing.T) {
	unit := map[string]string{}
	for _, setting := range settings(readDeploy(t, "systemd/provwatch.service")) {
		name, value, _ := strings.Cut(setting, "=")
		unit[name] = value
	}
	require.Equal(t, "notify", unit["Type"])
	require.Equal(t, "main", unit["NotifyAccess"], "a private PostgreSQL must not speak for the worker")
	require.NotEmpty(t, unit["WatchdogSec"])
	path, arguments, _ := strings.Cut(unit["ExecStart"], " ")
	require.Equal(t, "/usr/local/bin/worker", path)
	require.Equal(t, "/etc/provwatch/provwatch.env", unit["EnvironmentFile"])
	require.Regexp(t, `(?m)^u `+unit["User"]+` - `, readDeploy(t, "systemd/provwatch.sysusers"))

	example := readDeploy(t, "systemd/provwatch.env")
	// Those commented out are checked as well.
	all := settings(regexp.MustCompile(`(?m)^#(PROVWATCH_\w+=)`).ReplaceAllString(example, "$1"))
	known := variables(t)
	checked := 0
	for _, variable := range all {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PROVWATCH_") {
			require.True(t, known[name], name)
			checked++
		}
	}
	require.Equal(t, 3, checked)
	var usable []string
	for _, variable := range settings(example) {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case "DATABASE_URL":
		case "PROVWATCH_ENV_FILE":
			usable = append(usable, name+"="+filepath.Join(repository, "deploy", "example.env"))
		default:
			usable = append(usable, variable)
		}
	}
	requireUsable(t, usable, strings.Fields(arguments)...)
}

func TestSystemdTakesTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	verify := func(unit string) (string, error) {
		file := filepath.Join(t.TempDir(), "provwatch.service")
		require.NoError(t, os.WriteFile(file, []byte(unit), 0o644))
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--recursive-errors=no", file).CombinedOutput()
		return string(out), err
	}
	unit := strings.ReplaceAll(readDeploy(t, "systemd/provwatch.service"), "/usr/local/bin/worker", worker)
	out, err := verify(unit)
	require.NoError(t, err, out)
	require.Empty(t, out)

	out, err = verify(strings.ReplaceAll(unit, "WatchdogSec=30s", "WatchdogSeconds=30s"))
	require.True(t, err != nil || out != "", "a setting that does not exist is noticed")

	security, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=20", "--no-pager",
		filepath.Join(repository, "deploy", "systemd", "provwatch.service")).CombinedOutput()
	require.NoError(t, err, "an exposure of 2.0 at most:\n%s", security)
}
