package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// printedBy runs the program with the arguments, and returns all that it prints.
func printedBy(t *testing.T, args ...string) string {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = file, file
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	require.NotPanics(t, func() { run(args) })
	printed, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return string(printed)
}

// TestUsageSecrets puts secrets where they do not belong: in the place of arguments, of
// names of flags, and of each value of each flag of each command.
func TestUsageSecrets(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("DATABASE_URL", "postgres://127.0.0.1:1/d")
	t.Setenv("PROVWATCH_CONNECT_TIMEOUT", "1ms")
	const secret = "sk-proj-pasted-0123456789"
	const word = "correct-horse-battery" // without a digit
	misplaced := [][]string{
		{secret}, {word}, {"CODER_AIBRIDGE_OPENAI_KEY=" + secret}, {secret, word},
		{"--" + secret}, {"--" + word}, {"--" + secret + "=" + word}, {"--openai-key=" + secret}, {"--openai-key", secret},
		{"-" + secret}, {"-o" + secret}, {"-o", secret}, {"--=" + secret}, {"---" + secret}, {"-=" + secret},
		{"--", secret}, {"--", "--" + secret},
		{"--target", secret}, {"--env-file=postgres://u:" + secret + "@h/d"}, {"--http-addr", secret + " is no host:9464"},
	}
	check := func(args ...string) {
		t.Helper()
		printed := printedBy(t, args...)
		for _, one := range []string{secret, word} {
			require.NotContains(t, printed, one, "worker %q", args)
		}
	}
	n := 0
	eachCommand(newRootCommandForTest(), func(c *cobra.Command) {
		path := strings.Fields(c.CommandPath())[1:]
		args := func(more ...string) []string { return append(append([]string{}, path...), more...) }
		for _, more := range misplaced {
			check(args(more...)...)
			check(append([]string{"help"}, args(more...)...)...)
			n++
		}
		flags := func(flag *pflag.Flag) {
			check(args("--" + flag.Name + "=" + secret)...)
			if variable := variableOf(flag.Name); variable != "" {
				before := os.Getenv(variable)
				t.Setenv(variable, secret)
				check(args()...)
				t.Setenv(variable, before)
			}
			n++
		}
		c.LocalFlags().VisitAll(flags)
		c.InheritedFlags().VisitAll(flags)
	})
	require.Greater(t, n, 500)
}

// newRootCommandForTest returns the commands, cobra's own included.
func newRootCommandForTest() *cobra.Command {
	root := newRootCommand()
	root.InitDefaultVersionFlag()
	root.SetOut(io.Discard)
	return root
}

func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, do)
	}
}
