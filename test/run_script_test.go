package test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The script runs a worker that only tells what it was started with.
func TestMakeRunNamesMadeUpProvidersToThePrivatePostgreSQLAlone(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs("../scripts/run.sh")
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "bin"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "bin", "worker"),
		[]byte("#!/bin/sh\necho \"env=$PROVWATCH_ENV_FILE http=$PROVWATCH_HTTP_ADDR\"\nfor a in \"$@\"; do echo \"[$a]\"; done\n"), 0o755))
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
	require.Equal(t, "env=deploy/example.env http=127.0.0.1:1\n[run]\n[--data-dir=/d/it's mine]\n", told)
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
		require.Equal(t, name == "a folder and database", strings.Contains(said, "DATA_DIR, the folder of the private PostgreSQL, is not used"), name)
	}
	told, said = run([]string{"--env-file", "mine.env", "--http-addr=127.0.0.1:2"}, served)
	require.Equal(t, "env= http=127.0.0.1:1\n[run]\n[--env-file]\n[mine.env]\n[--http-addr=127.0.0.1:2]\n", told)
	require.Contains(t, said, "The status page is at http://127.0.0.1:2/\n")

	// Taken by this test, or else by another program.
	if listener, err := net.Listen("tcp", "127.0.0.1:9464"); err == nil {
		defer listener.Close()
	}
	told, said = run(nil, "DATABASE_URL=postgres://db/d")
	require.Equal(t, "env= http=127.0.0.1:0\n[run]\n", told)
	require.Contains(t, said, "the log's line")
}
