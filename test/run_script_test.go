//go:build e2e

package test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMakeRun(t *testing.T) {
	t.Parallel()
	t.Run("MadeUpProvidersStayPrivate", testMakeRunMadeUpProvidersStayPrivate)
	t.Run("ServesTheStatusPage", testMakeRunServesTheStatusPage)
}

// The script runs a worker that only tells what it was started with.
func testMakeRunMadeUpProvidersStayPrivate(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs("../scripts/run.sh")
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "bin"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "bin", "worker"),
		[]byte("#!/bin/sh\necho \"env=$PROVWATCH_ENV_FILE http=$PROVWATCH_HTTP_ADDR drift=$PROVWATCH_ON_BOOT_DRIFT\"\nfor a in \"$@\"; do echo \"[$a]\"; done\n"), 0o755))
	run := func(arguments []string, variables ...string) (stdout, stderr string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), script, arguments...)
		command.Dir, command.Env = folder, append(variables, "PATH="+os.Getenv("PATH"))
		var told, said strings.Builder
		command.Stdout, command.Stderr = &told, &said
		require.NoError(t, command.Run(), said.String())
		return told.String(), said.String()
	}
	const served = "PROVWATCH_HTTP_ADDR=127.0.0.1:1"

	told, said := run(nil, served, "DATA_DIR=/d/it's mine")
	require.Equal(t, "env=deploy/example.env http=127.0.0.1:1 drift=alert\n[run]\n[--data-dir=/d/it's mine]\n", told)
	require.Equal(t, "No provider variable is set: using the made-up providers of deploy/example.env\n"+
		"The status page is at http://127.0.0.1:1/\n"+
		`In a second terminal: bin/worker status --data-dir '/d/it'\''s mine'`+"\n", said)

	for name, variables := range map[string][]string{
		"a database":            {"DATABASE_URL=postgres://u:s3cret@db/d"},
		"libpq's variables":     {"PGSERVICE=mine"},
		"providers":             {"CODER_AI_GATEWAY_OPENAI_KEY=s3cret"},
		"a file of other ones":  {"PROVWATCH_ENV_FILE=mine.env"},
		"a file of databases":   {"PROVWATCH_CONFIG=mine.yaml"},
		"a folder and database": {"DATABASE_URL=postgres://u:s3cret@db/d", "DATA_DIR=/d"},
	} {
		told, said := run(nil, append(variables, served)...)
		require.NotContains(t, told+said, "example.env", name)
		require.NotContains(t, said, "s3cret", name)
		require.Equal(t, slices.Contains([]string{"providers", "a file of other ones"}, name), strings.Contains(told, "drift=alert"), name)
		require.Equal(t, name == "a folder and database", strings.Contains(said, "DATA_DIR, the folder of the private PostgreSQL, is not used"), name)
	}
	told, said = run([]string{"--env-file", "mine.env", "--http-addr=127.0.0.1:2"}, served)
	require.Equal(t, "env= http=127.0.0.1:1 drift=alert\n[run]\n[--env-file]\n[mine.env]\n[--http-addr=127.0.0.1:2]\n", told)
	require.Contains(t, said, "The status page is at http://127.0.0.1:2/\n")

	for want, variables := range map[string][]string{
		"drift=fail\n":  {"PROVWATCH_ON_BOOT_DRIFT=fail"},
		"drift=\n":      {"PROVWATCH_COMPAT=upstream-credentials"},
		"drift=alert\n": {"CODER_AI_GATEWAY_OPENAI_KEY=s3cret"},
	} {
		told, _ = run(nil, append(variables, served)...)
		require.Contains(t, told, want)
	}
	told, _ = run([]string{"--compat", "upstream-credentials"}, served)
	require.Contains(t, told, "drift=\n")

	// Taken by this test, or else by another program.
	if listener, err := net.Listen("tcp", "127.0.0.1:9464"); err == nil {
		defer listener.Close()
	}
	told, said = run(nil, "DATABASE_URL=postgres://db/d")
	require.Equal(t, "env= http=127.0.0.1:0 drift=\n[run]\n", told)
	require.Contains(t, said, "the log's line")
}

// testMakeRunServesTheStatusPage runs the demo twice, and changes a row in between.
func testMakeRunServesTheStatusPage(t *testing.T) {
	t.Parallel()
	w, dir, _ := newPrivateWorld(t)
	script, err := filepath.Abs("../scripts/run.sh")
	require.NoError(t, err)
	deploy, err := filepath.Abs("../deploy")
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "bin"), 0o755))
	require.NoError(t, os.Symlink(workerBinary, filepath.Join(folder, "bin", "worker")))
	require.NoError(t, os.Symlink(deploy, filepath.Join(folder, "deploy")))
	demo := func() *worker {
		return w.startCommand(func(command *exec.Cmd) {
			command.Path, command.Args, command.Dir = script, []string{script}, folder
		}, environ{"DATABASE_URL": "", "DATA_DIR": dir, "PROVWATCH_HTTP_ADDR": "127.0.0.1:0"}, "run").ready()
	}
	p := demo()
	w.attach(p)
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'demo-openai'`)
	eventually(t, func() bool { return len(w.alerts()) == 1 }, "the drift is alerted")
	p.signal(syscall.SIGINT)
	require.Equal(t, 0, p.wait())

	p = demo()
	w.attach(p)
	require.Equal(t, []string{"changed demo-openai"}, w.alerts())
	p.waitFor("level=WARN", "provider differs from the environment", "provider=demo-openai", "remedy=")
	remedy := regexp.MustCompile(`remedy="(bin/worker resolve demo-openai --take env .*), or bin/worker`).FindStringSubmatch(strings.Join(p.lines(), "\n"))
	require.NotNil(t, remedy)
	require.Zero(t, p.logged("level=WARN", "chmod"), "the demo's own file is not warned of")
	r := w.shell(folder, strings.ReplaceAll(remedy[1], `\\`, `\`))
	require.Equal(t, 0, r.Code, r.Stderr)
	eventually(t, func() bool { return len(w.alerts()) == 2 }, "the drift is resolved")
	require.Equal(t, []string{"changed demo-openai", "resolved demo-openai"}, w.alerts())
	p.signal(syscall.SIGINT)
	require.Equal(t, 0, p.wait())

	p = demo()
	require.Zero(t, p.logged("level=WARN", "differs"))
	p.stop()
	require.Empty(t, serversOf(t, dir))
}
