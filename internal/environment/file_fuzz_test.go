package environment_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-envparse"
	"github.com/stretchr/testify/require"

	"provwatch/internal/environment"
)

// fileErrors are all errors of an environment file: they hold nothing of its text.
var fileErrors = regexp.MustCompile(`^line \d+( is too long; at most 65535 bytes are allowed|: (` +
	`missing =|empty key|unmatched "|unmatched '|incomplete escape sequence|incomplete hex sequence|incomplete Unicode surrogate pair` +
	`|multibyte characters disallowed in escape sequences|holds a character or an escape sequence that is not allowed` +
	`); write NAME=value, with the value in single quotes if it holds ", # or \\|: ends with \\; a value cannot continue on the next line)$`)

// passedOver is the warning of lines that are not used.
var passedOver = regexp.MustCompile(`^lines? \d+( to \d+)?(, \d+( to \d+)?){0,9}( and \d+ more)? passed over: not NAME=value, and no provider variable$`)

// wellFormed returns what the lines set that can be parsed, and the numbers of the others.
func wellFormed(file string) (variables map[string]string, others []int) {
	variables = map[string]string{}
	for i, line := range strings.Split(strings.TrimPrefix(file, "\ufeff"), "\n") {
		parsed, err := envparse.Parse(strings.NewReader(line))
		if err != nil {
			others = append(others, i+1)
		}
		maps.Copy(variables, parsed)
	}
	return variables, others
}

// FuzzReadEnvironment reads arbitrary environment files beside an arbitrary
// environment of the process, one NAME=value a line: findings show nothing of the
// file, only lines that name a provider variable make it unusable, the process wins,
// and what is written to a file in quotes is read from it as it was.
func FuzzReadEnvironment(f *testing.F) {
	const openai = "CODER_AIBRIDGE_OPENAI_KEY"
	for _, file := range []string{
		"", openai + "=sk", "export " + openai + ` = "a\nb" # comment`, openai + "='sk", "\ufeff" + openai + "=sk", openai + "=\x00", "=sk", "sk-q7zleak",
		openai + `="\ud83d\ude00"`, openai + `="\ud83d"`, openai + "=a\r\n" + openai + "=b\r", "CODER_AIBRIDGE_PROVIDER_0_TYPE=openai\nCODER_AIBRIDGE_PROVIDER_0_KEYS='a, b'",
		strings.Repeat("x", 66000), openai + "=a'b'\"c\"", "export A\n" + openai + "=sk\nB='", "export " + openai + "\n" + openai + ": a\n" + openai + "=a\\\nb",
		"\xff\xfeC\x00", "A=\"-----BEGIN\nMII+\n-----END\"\n" + openai + "=sk",
	} {
		f.Add(file, openai+"=process\nPATH=/bin")
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file, process string) {
		path := filepath.Join(dir, "env")
		read := func(environ []string, text string) (environment.Environment, error) {
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			return environment.Read(environ, path)
		}
		environ := strings.Split(process, "\n")
		variables := map[string]string{}
		for _, pair := range environ {
			name, value, _ := strings.Cut(pair, "=")
			if _, repeated := variables[name]; !repeated {
				variables[name] = value
			}
		}

		env, err := read(environ, file)
		var wrong *environment.Error
		if errors.As(err, &wrong) && wrong.Findings[0].Variable == path {
			require.Equal(t, environment.Environment{Files: env.Files}, env)
			checkRefused(t, path, file, wrong.Findings)
		} else {
			fromFile, others := wellFormed(file)
			if len(others) > 0 {
				require.Equal(t, path, env.Warnings[0].Variable)
				require.Regexp(t, passedOver, env.Warnings[0].Message)
			}
			checkMerged(t, path, variables, fromFile, env, err)
		}

		// The process's variables, as far as a file can hold them, from a file.
		text, kept := quoted(variables)
		env, err = read(nil, text)
		want, errWant := environment.Parse(kept)
		require.Equal(t, errWant, err)
		require.Equal(t, plain(want.Providers), plain(env.Providers))
		require.Equal(t, want.Warnings, env.Warnings)
	})
}

// checkRefused checks the findings of a file that cannot be used.
func checkRefused(t *testing.T, path, file string, findings []environment.Finding) {
	if strings.HasPrefix(file, "\xff\xfe") || strings.HasPrefix(file, "\xfe\xff") {
		return
	}
	require.Regexp(t, "CODER_AI(BRIDGE|_GATEWAY)_", file, "no other line makes a file unusable")
	for _, finding := range findings {
		require.Equal(t, path, finding.Variable)
		require.Regexp(t, fileErrors, finding.Message)
	}
}

// checkMerged checks that env is what the variables of the process make with those of the
// file that it does not set.
func checkMerged(t *testing.T, path string, process, file map[string]string, env environment.Environment, err error) {
	merged := maps.Clone(process)
	for name, value := range file {
		if merged[name] == "" {
			merged[name] = value
		}
	}
	want, errWant := environment.Parse(merged)
	require.Equal(t, errWant, err)
	require.Equal(t, plain(want.Providers), plain(env.Providers))
	require.GreaterOrEqual(t, len(env.Warnings), len(want.Warnings))
	for _, warning := range env.Warnings {
		if warning.Variable != path && !slices.Contains(want.Warnings, warning) {
			require.Contains(t, warning.Message, "has another value in the file")
			require.NotEqual(t, process[warning.Variable], file[warning.Variable])
			require.NotEmpty(t, process[warning.Variable])
		}
	}
}

// quoted returns the text of a file that holds the variables in quotes. It leaves out
// variables that such a file cannot hold, and returns the others.
func quoted(variables map[string]string) (text string, kept map[string]string) {
	var lines []string
	kept = map[string]string{}
	for name, value := range variables {
		if nameOfFile.MatchString(name) && valueOfFile.MatchString(value) {
			kept[name] = value
			lines = append(lines, fmt.Sprintf("export %s='%s'", name, value))
		}
	}
	return strings.Join(lines, "\n"), kept
}

var (
	nameOfFile  = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	valueOfFile = regexp.MustCompile(`^[^'\x00-\x1f\x7f-\x{9f}\x{fffd}]{0,1000}$`)
)
