package deploy

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// announced is in each example: a gateway that runs already learns of the rows of a seed.
const announced = "PROVWATCH_ANNOUNCE_SEED=true"

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

func TestUnit(t *testing.T) {
	t.Run("CommandAndEnvironment", testUnitCommandAndEnvironment)
	t.Run("CrashIsRestarted", testUnitCrashIsRestarted)
	t.Run("SystemdVerifies", testUnitSystemdVerifies)
}

func testUnitCommandAndEnvironment(t *testing.T) {
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
			usable = append(usable, name+"="+filepath.Join(repository, "deploy", "systemd", "providers.env"))
		default:
			usable = append(usable, variable)
		}
	}
	require.Contains(t, usable, announced)
	requireUsable(t, usable, strings.Fields(arguments)...)

	// Whoever starts it unedited has no made-up provider in his database.
	providers := readDeploy(t, "systemd/providers.env")
	require.Empty(t, settings(providers))
	edited := settings(regexp.MustCompile(`(?m)^#(CODER_AIBRIDGE_\w+=)`).ReplaceAllString(providers, "$1"))
	require.Len(t, edited, 4)
	requireUsable(t, edited, strings.Fields(arguments)...)
}

// testUnitCrashIsRestarted aborts a worker as the watchdog does. The unit restarts a
// worker that exits so.
func testUnitCrashIsRestarted(t *testing.T) {
	unit := readDeploy(t, "systemd/provwatch.service")
	require.Contains(t, settings(unit), "RestartPreventExitStatus=2 3")
	var environment []string
	for _, setting := range settings(unit) {
		if variable, ok := strings.CutPrefix(setting, "Environment="); ok {
			environment = append(environment, variable)
		}
	}
	abort := func(environment []string) *os.ProcessState {
		t.Helper()
		command := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -c 0; exec "$0" run`, worker)
		command.Env = append(environment, "DATABASE_URL=postgres://worker@127.0.0.1:1/gateway?sslmode=disable",
			"PROVWATCH_CONNECT_TIMEOUT=10m", "PROVWATCH_HTTP_ADDR=127.0.0.1:0")
		log, err := command.StderrPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		lines := bufio.NewScanner(log)
		require.True(t, lines.Scan(), "it runs: %v", lines.Err())
		require.NoError(t, command.Process.Signal(syscall.SIGABRT))
		for lines.Scan() { // until it has ended
		}
		require.Error(t, command.Wait())
		return command.ProcessState
	}
	require.Equal(t, 2, abort(nil).ExitCode(), "what the unit is to avoid")
	state := abort(environment).Sys().(syscall.WaitStatus)
	require.True(t, state.Signaled() && state.Signal() == syscall.SIGABRT, "%v", state)
}

func testUnitSystemdVerifies(t *testing.T) {
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
