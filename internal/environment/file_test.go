package environment_test

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/environment"
)

func writeEnvFile(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "provwatch.env")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestReadEnvironment(t *testing.T) {
	t.Run("NoFile", testReadEnvironmentNoFile)
	t.Run("ProcessWins", testReadEnvironmentProcessWins)
	t.Run("ErrorInFile", testReadEnvironmentErrorInFile)
	t.Run("SharedFile", testReadEnvironmentSharedFile)
	t.Run("RefusedLines", testReadEnvironmentRefusedLines)
	t.Run("UTF16", testReadEnvironmentUTF16)
	t.Run("FileWarningFirst", testReadEnvironmentFileWarningFirst)
	t.Run("UnreadableFile", testReadEnvironmentUnreadableFile)
	t.Run("ReadByEachCall", testReadEnvironmentReadByEachCall)
	t.Run("WarningsBesideErrors", testReadEnvironmentWarningsBesideErrors)
	t.Run("Prefix", testReadEnvironmentPrefix)
}

func testReadEnvironmentNoFile(t *testing.T) {
	env, err := environment.Read([]string{
		"CODER_AIBRIDGE_OPENAI_KEY=sk=1", "CODER_AIBRIDGE_OPENAI_KEY=sk-2", "=C:=x", "", "CODER_AIBRIDGE_ANTHROPIC_KEY",
	}, "")
	require.NoError(t, err)
	require.Empty(t, env.Warnings)
	require.Equal(t, []desired{{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/",
		Keys: []string{"sk=1"}, Variables: "CODER_AIBRIDGE_OPENAI_*"}}, plain(env.Providers))
}

func testReadEnvironmentProcessWins(t *testing.T) {
	const (
		p0 = "CODER_AIBRIDGE_PROVIDER_0_"
		p1 = "CODER_AI_GATEWAY_PROVIDER_1_"
	)
	path := writeEnvFile(t, strings.Join([]string{
		"# providers",
		"",
		"export " + p0 + "TYPE=openai",
		p0 + "NAME = from-file   # a comment",
		p0 + "KEYS='a$HOME#,b'",
		p0 + `BASE_URL="https://file/"`,
		p1 + "TYPE=openai",
		p1 + "NAME=other",
		"CODER_AIBRIDGE_ENABLED=false",
		"CODER_AIBRIDGE_OPENAI_DUMP_DIR=/file",
		"PATH=/file",
		"CODER_AIBRIDGE_OPENAI_KYE=file",
		"CODER_AIBRIDGE_ANTHROPIC_KEY=",
	}, "\r\n"))
	env, err := environment.Read([]string{
		p0 + "NAME=from-process",                                                                  // differs
		p0 + "BASE_URL=",                                                                          // not set
		p1 + "NAME=other",                                                                         // the same
		"CODER_AIBRIDGE_ENABLED=true", "CODER_AIBRIDGE_OPENAI_DUMP_DIR=/process", "PATH=/process", // not of interest
		"CODER_AIBRIDGE_OPENAI_KYE=process",
	}, path)
	require.NoError(t, err)
	require.Equal(t, []desired{
		{Name: "from-process", Type: "openai", BaseURL: "https://file/", Keys: []string{"a$HOME#", "b"}, Variables: p0 + "*"},
		{Name: "other", Type: "openai", Variables: p1 + "*"},
	}, plain(env.Providers))
	require.Equal(t, []string{
		"CODER_AIBRIDGE_OPENAI_KYE: has another value in the file " + path + "; the value of the process environment is used",
		"CODER_AIBRIDGE_OPENAI_KYE: is not a known field and is ignored; the nearest known one is OPENAI_KEY",
		p0 + "NAME: has another value in the file " + path + "; the value of the process environment is used",
	}, texts(env.Warnings))
}

func testReadEnvironmentErrorInFile(t *testing.T) {
	const (
		name  = "CODER_AIBRIDGE_OPENAI_KEY"
		write = `; write NAME=value, with the value in single quotes if it holds ", # or \`
	)
	for problem, c := range map[string]struct{ line, want string }{
		"a name without a value":     {"export " + name, "line 2: missing =" + write},
		"YAML":                       {name + ": sk-§§§", "line 2: missing =" + write},
		"another shell's syntax":     {"setenv " + name + " §§§", "line 2: missing =" + write},
		"a list item":                {"-" + name + "=§§§", "line 2: holds a character or an escape sequence that is not allowed" + write},
		"a name in quotes":           {`"` + name + `"=§§§`, "line 2: holds a character or an escape sequence that is not allowed" + write},
		"a declaration":              {"declare -x " + name + `="§§§"`, "line 2: holds a character or an escape sequence that is not allowed" + write},
		"a name with a bad part":     {name + "-2=§§§", "line 2: holds a character or an escape sequence that is not allowed" + write},
		"an index that is none":      {"CODER_AI_GATEWAY_PROVIDER_[0]_key=§§§", "line 2: holds a character or an escape sequence that is not allowed" + write},
		"a continued line":           {name + `=§§§\`, `line 2: ends with \; a value cannot continue on the next line`},
		"an unmatched double quote":  {name + `="§§§`, `line 2: unmatched "` + write},
		"an unmatched single quote":  {name + "='§§§", "line 2: unmatched '" + write},
		"an incomplete escape":       {name + `="§§§\`, "line 2: incomplete escape sequence" + write},
		"an unknown escape":          {name + `="\§§§"`, "line 2: multibyte characters disallowed in escape sequences" + write},
		"another unknown escape":     {name + `="\Q§§§"`, "line 2: holds a character or an escape sequence that is not allowed" + write},
		"an incomplete hex sequence": {name + `="\u00`, "line 2: incomplete hex sequence" + write},
		"a bad hex sequence":         {name + `="\u00§§"`, "line 2: holds a character or an escape sequence that is not allowed" + write},
		"half a surrogate pair":      {name + `="\ud800§§§"`, "line 2: incomplete Unicode surrogate pair" + write},
		"a control character":        {name + "=a\x01§§§", "line 2: holds a character or an escape sequence that is not allowed" + write},
		"a line that is too long":    {name + "=" + strings.Repeat("§", bufio.MaxScanTokenSize), "line 2 is too long; at most 65535 bytes are allowed"},
	} {
		t.Run(problem, func(t *testing.T) {
			path := writeEnvFile(t, "A=b\n"+c.line+"\nC=d\n")
			env, err := environment.Read([]string{"CODER_AIBRIDGE_ANTHROPIC_KEY=k"}, path)
			require.Equal(t, environment.Environment{Files: env.Files}, env)
			require.Len(t, env.Files, 1)
			require.EqualError(t, err, "1 error in the environment:\n  "+path+": "+c.want)
			var wrong *environment.Error
			require.ErrorAs(t, err, &wrong)
			require.NotContains(t, err.Error(), "§")
		})
	}
}

func testReadEnvironmentSharedFile(t *testing.T) {
	passed := func(lines string) string { return lines + " passed over: not NAME=value, and no provider variable" }
	openAI := []desired{{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/", Keys: []string{"sk"}, Variables: "CODER_AIBRIDGE_OPENAI_*"}}
	const line = "CODER_AIBRIDGE_OPENAI_KEY=sk"
	for name, c := range map[string]struct{ text, warning string }{
		"a byte order mark":                          {"\ufeff" + line, ""},
		"a byte order mark before a comment":         {"\ufeff# providers\n" + line, ""},
		"a byte order mark elsewhere":                {line + "\n\ufeff\n", passed("line 2")},
		"export without a value":                     {"export §§§\n" + line, passed("line 1")},
		"export of a variable of the gateway":        {"export CODER_AIBRIDGE_ENABLED\n" + line, passed("line 1")},
		"dotted and hyphenated names":                {"a.b.c=§§§\n.a=§§§\na-b=§§§\n1a=§§§\n" + line, passed("lines 2 to 4")},
		"names of other alphabets":                   {"§§§=1\r\n" + line + "\r\n", passed("line 1")},
		"a section":                                  {"[Service]\n" + line, passed("line 1")},
		"a shell's commands":                         {"set -a\nif [ \"$A\" = b ]; then\n  A=b\nfi\n" + line, passed("lines 1 to 2, 4")},
		"an unmatched quote":                         {"GREETING=it's §§§\n" + line, passed("line 1")},
		"an escape sequence":                         {`A="\§§§"` + "\n" + line, passed("line 1")},
		"a line that is too long":                    {"A=" + strings.Repeat("§", bufio.MaxScanTokenSize) + "\n" + line, passed("line 1")},
		"a variable that is named in a value":        {`NOTE="see CODER_AIBRIDGE_OPENAI_KEY` + "\n" + line, passed("line 1")},
		"the value of another variable ends with \\": {"A=b\\\nc\n" + line, passed("lines 1 to 2")},
		"a certificate": {"CERT=\"-----BEGIN CERTIFICATE-----\nMII+§§§\nAAAA==\n-----END CERTIFICATE-----\"\n" + line + "\nKEY='-----BEGIN\n" +
			"-----END'", passed("lines 1 to 2, 4, 6 to 7")},
		"more than are named": {strings.Repeat("§\n\n", 12) + line, passed("lines 1, 3, 5, 7, 9, 11, 13, 15, 17, 19 and 2 more")},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeEnvFile(t, c.text)
			env, err := environment.Read(nil, path)
			require.NoError(t, err)
			require.Equal(t, openAI, plain(env.Providers))
			require.Equal(t, 1, env.FileVariables)
			var want []string
			if c.warning != "" {
				want = []string{path + ": " + c.warning}
			}
			require.Equal(t, want, texts(env.Warnings))
			require.NotContains(t, strings.Join(texts(env.Warnings), ""), "§")
		})
	}
}

func testReadEnvironmentRefusedLines(t *testing.T) {
	const write = `; write NAME=value, with the value in single quotes if it holds ", # or \`
	path := writeEnvFile(t, "export CODER_AIBRIDGE_OPENAI_KEY\n§\nCODER_AIBRIDGE_ANTHROPIC_KEY='a\nCODER_AIBRIDGE_PROVIDER_0_TYPE=openai")
	_, err := environment.Read(nil, path)
	var wrong *environment.Error
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, []string{path + ": line 1: missing =" + write, path + ": line 3: unmatched '" + write}, texts(wrong.Findings))
}

func testReadEnvironmentUTF16(t *testing.T) {
	for _, text := range []string{"\xff\xfeC\x00", "\xfe\xff\x00C"} {
		path := writeEnvFile(t, text)
		_, err := environment.Read(nil, path)
		require.EqualError(t, err, "1 error in the environment:\n  "+path+": the environment file is UTF-16; save it as UTF-8")
	}
}

func testReadEnvironmentFileWarningFirst(t *testing.T) {
	path := writeEnvFile(t, "§\nCODER_AIBRIDGE_OPENAI_KYE=x\nCODER_AIBRIDGE_PROVIDER_0_TYPE=cohere")
	env, err := environment.Read(nil, path)
	require.NoError(t, err)
	require.Len(t, env.Warnings, 3)
	require.Equal(t, path, env.Warnings[0].Variable)
}

func testReadEnvironmentUnreadableFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent.env")
	_, err := environment.Read(nil, path)
	var wrong *environment.Error
	require.True(t, errors.As(err, &wrong))
	require.Equal(t, []string{path + ": the environment file cannot be read: no such file or directory"}, texts(wrong.Findings))
}

func testReadEnvironmentReadByEachCall(t *testing.T) {
	path := writeEnvFile(t, "CODER_AIBRIDGE_OPENAI_KEY=a")
	before, err := environment.Read(nil, path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("CODER_AIBRIDGE_OPENAI_KEY=b"), 0o600))
	after, err := environment.Read(nil, path)
	require.NoError(t, err)
	require.Equal(t, "a", before.Providers[0].Keys[0].Reveal())
	require.Equal(t, "b", after.Providers[0].Keys[0].Reveal())
}

func testReadEnvironmentWarningsBesideErrors(t *testing.T) {
	path := writeEnvFile(t, "CODER_AIBRIDGE_PROVIDER_0_NAME=a")
	env, err := environment.Read([]string{"CODER_AIBRIDGE_PROVIDER_0_NAME=b"}, path)
	require.Error(t, err)
	require.Empty(t, env.Providers)
	require.Len(t, env.Warnings, 1)
}

func testReadEnvironmentPrefix(t *testing.T) {
	environ := []string{
		"BILLING_OPENAI_KEY=sk-billing", "BILLING_OPENAI_KEY=second", "SEARCH_OPENAI_KEY=sk-search", "CODER_AIBRIDGE_ANTHROPIC_KEY=sk-ant",
		"BILLING_DATABASE_URL=postgres://u:p@h/d",
	}
	env, err := environment.Read(environ, "", environment.Prefix("BILLING_"))
	require.NoError(t, err)
	require.Empty(t, env.Warnings)
	require.Equal(t, []desired{{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/",
		Keys: []string{"sk-billing"}, Variables: "BILLING_OPENAI_*"}}, plain(env.Providers))

	_, err = environment.Read(append(environ, "BILLING_PROVIDER_0_KEY=sk-x"), "", environment.Prefix("BILLING_"))
	var failed *environment.Error
	require.ErrorAs(t, err, &failed)
	require.NotContains(t, err.Error(), "CODER_AIBRIDGE_")
	require.Contains(t, err.Error(), "BILLING_PROVIDER_0_")

	env, err = environment.Read(environ, "", environment.Prefix("BILING_"))
	require.NoError(t, err)
	require.Equal(t, []environment.Finding{{"BILING_", "no variable that begins so names a provider; nothing is watched"}}, env.Warnings)
}
