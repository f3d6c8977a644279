//go:build e2e

package test

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOutput(t *testing.T) {
	t.Parallel()
	t.Run("VersionAndHelp", testOutputVersionAndHelp)
	t.Run("ColourOnATerminalAlone", testOutputColourOnATerminalAlone)
}

func testOutputVersionAndHelp(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	require.Equal(t, result{Code: 0, Stdout: "provwatch worker test (commit 0123abc, " + runtime.Version() + ")\n"}, w.run(nil, "version"))
	r := w.run(nil, "version", "-o", "json")
	require.JSONEq(t, `{"version": "test", "commit": "0123abc", "go": "`+runtime.Version()+`"}`, r.Stdout)
	require.Equal(t, result{Code: 0, Stdout: "worker version test\n"}, w.run(nil, "--version"))

	r = w.run(nil, "--help")
	require.Equal(t, 0, r.Code)
	require.Contains(t, r.Stdout, "Exit codes: 0 ok, 1 failure, 2 drift found, 3 bad environment or flags, 4 database unreachable or schema unusable.")
	for _, command := range []string{"run", "seed", "verify", "resolve", "watch", "migrate", "version"} {
		require.Regexp(t, `(?m)^  `+command+` +[A-Z]`, r.Stdout)
		help := w.run(nil, command, "--help")
		require.Equal(t, 0, help.Code)
		require.Contains(t, help.Stdout, "worker "+command)
		require.Contains(t, help.Stdout, "--log-format")
	}
	w.unmigrated()
}

func testOutputColourOnATerminalAlone(t *testing.T) {
	t.Parallel()
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("script(1) of util-linux is not installed")
	}
	w := newWorld(t)
	env := w.twoProviders()
	for _, args := range []string{"seed --dry-run", "verify", "migrate --dry-run", "version"} {
		r := w.run(env, strings.Fields(args)...)
		require.NotContains(t, r.Stdout+r.Stderr, "\x1b", "in a pipe: %s", args)
	}
	onTerminal := func(env environ, args string) string {
		t.Helper()
		command := w.command(env)
		command.Path, command.Args = script, []string{"script", "-qec", workerBinary + " " + args, "/dev/null"}
		out, err := command.CombinedOutput()
		var exit *exec.ExitError
		if err != nil {
			require.ErrorAs(t, err, &exit)
		}
		w.emit(string(out))
		return string(out)
	}
	env["TERM"] = "xterm"
	require.Contains(t, onTerminal(env, "seed --dry-run"), "\x1b[32m+\x1b[0m")
	require.Contains(t, onTerminal(env, "verify"), "\x1b[33mmissing\x1b[0m")
	for _, plain := range []environ{env.With("NO_COLOR", "1"), env.With("TERM", "dumb")} {
		out := onTerminal(plain, "verify")
		require.Contains(t, out, "missing")
		require.NotContains(t, out, "\x1b")
	}
	require.NotContains(t, onTerminal(env, "verify -o json"), "\x1b")
}
