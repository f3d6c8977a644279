package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// completions returns the words that a shell offers after the arguments.
func completions(t *testing.T, args ...string) []string {
	t.Helper()
	lines, _ := completed(t, args...)
	return lines
}

// completed returns these words, and whether the shell offers names of files as well.
func completed(t *testing.T, args ...string) (_ []string, filenames bool) {
	t.Helper()
	root := newRootCommand()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd}, args...))
	require.NoError(t, root.Execute())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	// The last line is the directive for the shell.
	return lines[:len(lines)-1], lines[len(lines)-1] == fmt.Sprintf(":%d", cobra.ShellCompDirectiveDefault)
}

func TestCompletion(t *testing.T) {
	t.Run("NamesOfFiles", testCompletionNamesOfFiles)
	t.Run("Words", testCompletionWords)
	t.Run("Scripts", testCompletionScripts)
}

func testCompletionNamesOfFiles(t *testing.T) {
	run, _, err := newRootCommand().Find([]string{"run"})
	require.NoError(t, err)
	require.NoError(t, run.ParseFlags(nil)) // which adds the flags of all commands
	var named []string
	run.Flags().VisitAll(func(flag *pflag.Flag) {
		if flag.Value.Type() == "bool" {
			return
		}
		if _, filenames := completed(t, "run", "--"+flag.Name, ""); filenames {
			named = append(named, flag.Name)
		}
	})
	require.Equal(t, []string{"alertmanager-ca-file", "config", "database-url-file", "env-file", "http-token-file", "nats-ca-file", "nats-creds",
		"webhook-ca-file", "webhook-secret-file"}, named)
}

func testCompletionWords(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "providers.env")
	require.NoError(t, os.WriteFile(file, []byte("CODER_AIBRIDGE_OPENAI_KEY=k\nCODER_AIBRIDGE_ANTHROPIC_KEY=k\n"), 0o600))
	require.Subset(t, completions(t, ""), []string{"run", "seed", "verify", "resolve", "watch", "completion"})
	require.Equal(t, []string{"auto", "notify", "wal"}, completions(t, "run", "--source", ""))
	require.Equal(t, []string{"text", "json"}, completions(t, "verify", "-o", ""))
	require.Equal(t, []string{"env", "db"}, completions(t, "resolve", "openai", "--take", ""))
	require.Equal(t, []string{"anthropic", "openai"}, completions(t, "resolve", "--env-file", file, ""))
	targets := filepath.Join(dir, "provwatch.yaml")
	require.NoError(t, os.WriteFile(targets, []byte("targets:\n- {name: a, env_file: providers.env, database: host=a}\n- {name: b, env_prefix: B_, database: host=b}\n"), 0o600))
	require.Equal(t, []string{"a", "b"}, completions(t, "verify", "--config", targets, "--target", ""))
	require.Empty(t, completions(t, "verify", "--target", ""))
	require.Equal(t, []string{"anthropic", "openai"}, completions(t, "resolve", "--config", targets, "--target", "a", ""))
	t.Setenv("PROVWATCH_ENV_FILE", file)
	require.Equal(t, []string{"anthropic", "openai"}, completions(t, "resolve", ""))
	require.Equal(t, []string{"anthropic"}, completions(t, "resolve", "openai", ""), "each is named once")
	require.Empty(t, completions(t, "resolve", "--all", ""))
	for _, command := range []string{"plan", "apply", "silence"} {
		require.Equal(t, []string{"anthropic", "openai"}, completions(t, command, ""), command)
		require.Equal(t, []string{"anthropic"}, completions(t, command, "openai", ""), command)
	}
	for _, command := range []string{"silences", "unsilence", "prune"} {
		require.Empty(t, completions(t, command, ""), "%s: no names of files", command)
	}
	require.Equal(t, []string{"alertmanager", "nats", "webhook"}, completions(t, "sinks", "retry", ""))
	require.Empty(t, completions(t, "sinks", "retry", "nats", ""))
	require.Empty(t, completions(t, "run", "--resync", ""), "no names of files")
}

func testCompletionScripts(t *testing.T) {
	require.Equal(t, shells, completions(t, "completion", ""))
	for _, shell := range shells {
		root := newRootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs([]string{"completion", shell})
		require.NoError(t, root.Execute())
		require.Contains(t, out.String(), "__complete", shell)
	}
}
