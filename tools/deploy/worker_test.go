package deploy

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

// worker is the worker as the Dockerfile builds it, from the files that it copies
// and no others.
var worker string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "provwatch-deploy-")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		worker = filepath.Join(dir, "out", "worker")
		if err := buildAsTheDockerfileDoes(dir); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// run runs the worker with an environment and nothing else, and returns its exit
// code and what it printed.
func run(t *testing.T, environment []string, args ...string) (int, string) {
	t.Helper()
	command := exec.CommandContext(waittest.Context(t), worker, args...)
	command.Env = environment
	out, err := command.CombinedOutput()
	require.NotNil(t, command.ProcessState, "%v", err)
	return command.ProcessState.ExitCode(), string(out)
}

// TestBuiltWorker checks that the worker is static and prints its version.
func TestBuiltWorker(t *testing.T) {
	binary, err := elf.Open(worker)
	require.NoError(t, err)
	defer func() { _ = binary.Close() }()
	for _, program := range binary.Progs {
		require.NotEqual(t, elf.PT_INTERP, program.Type, "it has no interpreter")
	}
	libraries, err := binary.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)
	content, err := os.ReadFile(worker)
	require.NoError(t, err)
	require.NotContains(t, string(content), filepath.Dir(filepath.Dir(worker))+"/", "it does not tell where it was built")

	_, out := run(t, nil, "version")
	require.Regexp(t, `^provwatch worker v1\.2\.3 \(commit 0123abc, go1\.\d+\S*\)\n$`, out)
}

// variables returns the PROVWATCH_* variables of the flags of "worker run".
func variables(t *testing.T) map[string]bool {
	t.Helper()
	code, help := run(t, nil, "run", "--help")
	require.Zero(t, code)
	set := map[string]bool{}
	for _, flag := range regexp.MustCompile(`(?m)^ +(?:-\w, |    )--([a-z-]+)`).FindAllStringSubmatch(help, -1) {
		if flag[1] != "help" {
			set["PROVWATCH_"+strings.ToUpper(strings.ReplaceAll(flag[1], "-", "_"))] = true
		}
	}
	require.Contains(t, set, "PROVWATCH_HTTP_ADDR")
	require.Greater(t, len(set), 10)
	return set
}

// requireUsable checks that each PROVWATCH_* variable of NAME=value is one of the
// worker's, and that the worker takes them all: it gets as far as the database,
// where nobody listens.
func requireUsable(t *testing.T, environment []string, args ...string) {
	t.Helper()
	known := variables(t)
	for _, variable := range environment {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "PROVWATCH_") {
			require.True(t, known[name], "%s is a variable of the worker", name)
		}
	}
	const nobody = "postgres://worker@127.0.0.1:1/gateway?sslmode=disable"
	code, out := run(t, append(environment, "DATABASE_URL="+nobody, "PROVWATCH_HTTP_ADDR=127.0.0.1:0"), append(args, "--connect-timeout=1ms")...)
	require.Equal(t, 4, code, "the database is not reached, and nothing is wrong before:\n%s", out)
}

// TestUnknownSettings checks that variables and flags that do not exist are found.
func TestUnknownSettings(t *testing.T) {
	require.False(t, variables(t)["PROVWATCH_HTTP_ADDRESS"])
	code, _ := run(t, nil, "run", "--http-address=:1")
	require.Equal(t, 3, code)
	code, _ = run(t, []string{"PROVWATCH_SOURCE=guess"}, "run")
	require.Equal(t, 3, code)
}
