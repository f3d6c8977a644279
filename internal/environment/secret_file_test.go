package environment_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/environment"
)

// TestSecretsInFiles gives secrets as files. In each variable that names one, "/" stands for
// the folder of the files.
func TestSecretsInFiles(t *testing.T) {
	const (
		p        = "CODER_AIBRIDGE_PROVIDER_0_"
		combined = "; remove one of them"
	)
	for name, c := range map[string]struct {
		env      string
		files    map[string]string
		mode     os.FileMode // of the files; 0 for the usual one
		keys     []string    // of the only provider
		bedrock  *bedrock
		errors   []string
		warnings []string
	}{
		"Singular":           {env: "@OPENAI_KEY_FILE=/a", files: map[string]string{"a": "sk-1"}, keys: []string{"sk-1"}},
		"LineFeed":           {env: "@OPENAI_KEY_FILE=/a", files: map[string]string{"a": "sk-1\n"}, keys: []string{"sk-1"}},
		"CarriageReturn":     {env: "@OPENAI_KEY_FILE=/a", files: map[string]string{"a": "sk-1\r\n"}, keys: []string{"sk-1"}},
		"AnyCase":            {env: "@OPENAI_key_FILE=/a", files: map[string]string{"a": "sk-1"}, keys: []string{"sk-1"}},
		"Verbatim":           {env: "@PROVIDER_0_TYPE=openai ~PROVIDER_0_KEY_FILE=/a", files: map[string]string{"a": "a,b#$c"}, keys: []string{"a,b#$c"}},
		"Plural":             {env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS_FILE=/a", files: map[string]string{"a": "a,1\r\n b \nc\n"}, keys: []string{"a,1", "b", "c"}},
		"PluralOfOne":        {env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS_FILE=/a", files: map[string]string{"a": "a"}, keys: []string{"a"}},
		"Legacy":             {env: "@BEDROCK_ACCESS_KEY_FILE=/a @BEDROCK_ACCESS_KEY_SECRET_FILE=/s", files: map[string]string{"a": "A\n", "s": "S\n"}, bedrock: &bedrock{"", sonnet, haiku, "A", "S"}},
		"BesideAVariable":    {env: "@BEDROCK_ACCESS_KEY=A @BEDROCK_ACCESS_KEY_SECRET_FILE=/s", files: map[string]string{"s": "S"}, bedrock: &bedrock{"", sonnet, haiku, "A", "S"}},
		"PairsOfLists":       {env: "@PROVIDER_0_TYPE=bedrock @PROVIDER_0_BEDROCK_ACCESS_KEYS_FILE=/a @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS_FILE=/s", files: map[string]string{"a": "A\nB", "s": "S\nT"}, bedrock: &bedrock{"", sonnet, haiku, "A", "S"}, warnings: []string{p + "BEDROCK_ACCESS_KEYS_FILE: only the first access key and its secret are stored; not stored: 1"}},
		"SetBoth":            {env: "@OPENAI_KEY=k @OPENAI_KEY_FILE=/a", errors: []string{"@OPENAI_KEY_FILE: cannot be combined with @OPENAI_KEY" + combined}},
		"SetBothByPrefix":    {env: "~OPENAI_KEY=k @OPENAI_KEY_FILE=/a", files: map[string]string{"a": "k"}, errors: []string{"~OPENAI_KEY: cannot be combined with @OPENAI_KEY_FILE" + combined}},
		"SingularAndPlural":  {env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEY=k @PROVIDER_0_KEYS_FILE=/a", files: map[string]string{"a": "l"}, errors: []string{"@PROVIDER_0_KEYS_FILE: cannot be combined with @PROVIDER_0_KEY" + combined}},
		"TwoFiles":           {env: "~OPENAI_KEY_FILE=/b @OPENAI_KEY_FILE=/a", files: map[string]string{"a": "k", "b": "k"}, errors: []string{"~OPENAI_KEY_FILE: is set to another value than @OPENAI_KEY_FILE, which means the same; remove one of them"}},
		"Absent":             {env: "@OPENAI_KEY_FILE=/a", errors: []string{"@OPENAI_KEY_FILE: the file /a cannot be read: no such file or directory"}},
		"AbsentPair":         {env: "@PROVIDER_0_TYPE=bedrock @PROVIDER_0_BEDROCK_ACCESS_KEYS_FILE=/a @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS_FILE=/s", files: map[string]string{"s": "S\nT"}, errors: []string{"@PROVIDER_0_BEDROCK_ACCESS_KEYS_FILE: the file /a cannot be read: no such file or directory"}},
		"AllAbsent":          {env: "@OPENAI_KEY_FILE=/a @ANTHROPIC_KEY_FILE=/b", errors: []string{"@ANTHROPIC_KEY_FILE: the file /b cannot be read: no such file or directory", "@OPENAI_KEY_FILE: the file /a cannot be read: no such file or directory"}},
		"Empty":              {env: "@OPENAI_KEY_FILE=/a", files: map[string]string{"a": "\n"}, errors: []string{"@OPENAI_KEY_FILE: the file /a is empty; write the secret into it, or remove this variable"}},
		"OpenToWriters":      {env: "@OPENAI_KEY_FILE=/a", files: map[string]string{"a": "q7zleak"}, mode: 0o666, errors: []string{"@OPENAI_KEY_FILE: the file /a cannot be read: others may write to it (mode 0666); run: chmod o-w /a"}},
		"Directory":          {env: "@OPENAI_KEY_FILE=/.", errors: []string{"@OPENAI_KEY_FILE: the file /. cannot be read: it is a directory, not a regular file"}},
		"SecretInsteadOfIt":  {env: "@OPENAI_KEY_FILE=q7zleak-sk-0001", errors: []string{"@OPENAI_KEY_FILE: the file (path not shown) cannot be read: no such file or directory"}},
		"ControlCharacter":   {env: "@OPENAI_KEY_FILE=/a", files: map[string]string{"a": "q7zleak\nq7zleak"}, errors: []string{"@OPENAI_KEY_FILE: " + control}},
		"TwoLineBreaks":      {env: "@OPENAI_KEY_FILE=/a", files: map[string]string{"a": "q7zleak\n\n"}, errors: []string{"@OPENAI_KEY_FILE: " + lineEnd}},
		"NotUTF8":            {env: "@OPENAI_KEY_FILE=/a", files: map[string]string{"a": "q7zleak\xff"}, errors: []string{"@OPENAI_KEY_FILE: " + badText}},
		"EmptyLine":          {env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS_FILE=/a", files: map[string]string{"a": "q7zleak\n\nb"}, errors: []string{"@PROVIDER_0_KEYS_FILE: element 1 is empty; remove its line"}},
		"RepeatedLine":       {env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS_FILE=/a", files: map[string]string{"a": "q7zleak\nq7zleak"}, errors: []string{"@PROVIDER_0_KEYS_FILE: element 1 repeats element 0"}},
		"TooManyLines":       {env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS_FILE=/a", files: map[string]string{"a": "1\n2\n3\n4\n5\n6\n"}, errors: []string{"@PROVIDER_0_KEYS_FILE: holds 6 elements; at most 5 are allowed"}},
		"OfNoSecret":         {env: "@OPENAI_KEY=k @OPENAI_BASE_URL_FILE=/a", keys: []string{"k"}, warnings: []string{"@OPENAI_BASE_URL_FILE: " + unknown + "OPENAI_BASE_URL"}},
		"IndexedFieldOfNone": {env: "@OPENAI_KEY=k @BEDROCK_ACCESS_KEYS_FILE=/a", keys: []string{"k"}, warnings: []string{"@BEDROCK_ACCESS_KEYS_FILE: " + unknown + "BEDROCK_ACCESS_KEY_FILE"}},
		"OfAnUnknownType":    {env: "@PROVIDER_0_TYPE=cohere @PROVIDER_0_KEY_FILE=/a", warnings: []string{"@PROVIDER_0_TYPE: " + skipped}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
				if c.mode != 0 {
					require.NoError(t, os.Chmod(filepath.Join(dir, name), c.mode))
				}
			}
			at := func(s string) string { return strings.ReplaceAll(s, "FILE=/", "FILE="+dir+"/") }
			of := func(s string) string {
				return strings.ReplaceAll(strings.ReplaceAll(spell(s), " /", " "+dir+"/"), " "+dir+"/ ", " / ")
			}
			env, err := environment.Read(strings.Fields(spell(at(c.env))), "")
			var wantWarnings, wantErrors []string
			for _, w := range c.warnings {
				wantWarnings = append(wantWarnings, spell(w))
			}
			for _, e := range c.errors {
				wantErrors = append(wantErrors, of(e))
			}
			require.Equal(t, wantWarnings, texts(env.Warnings))
			var wrong *environment.Error
			if len(c.errors) > 0 {
				require.ErrorAs(t, err, &wrong)
				require.Equal(t, wantErrors, texts(wrong.Findings))
				require.NotContains(t, err.Error(), "q7zleak")
				return
			}
			require.NoError(t, err)
			if c.keys == nil && c.bedrock == nil {
				require.Empty(t, env.Providers)
				require.Empty(t, env.Files, "no other file is read")
				return
			}
			require.Len(t, env.Providers, 1)
			require.Equal(t, c.keys, plain(env.Providers)[0].Keys)
			require.Equal(t, c.bedrock, plain(env.Providers)[0].Bedrock)
		})
	}
}

// TestFiles lists the files of an environment, readable and unreadable.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(path(name), []byte(content), 0o600))
	}
	read := func(environ []string, envFile string, options ...environment.Option) (paths []string, err error) {
		env, err := environment.Read(environ, envFile, options...)
		for _, f := range env.Files {
			require.False(t, f.Touched())
			paths = append(paths, f.Path)
		}
		return paths, err
	}
	paths, err := read([]string{"CODER_AIBRIDGE_OPENAI_KEY=k"}, "")
	require.NoError(t, err)
	require.Empty(t, paths)

	paths, err = read(nil, path("env"))
	require.Error(t, err)
	require.Equal(t, []string{path("env")}, paths)

	write("env", "CODER_AIBRIDGE_OPENAI_KEY_FILE="+path("openai")+"\n"+dbcrypt.KeysFileVariable+"="+path("keys"))
	process := []string{"CODER_AIBRIDGE_ANTHROPIC_KEY_FILE=" + path("anthropic")}
	paths, err = read(process, path("env"))
	require.Error(t, err)
	require.ElementsMatch(t, []string{path("env"), path("openai"), path("anthropic"), path("keys")}, paths)

	write("openai", "k")
	write("anthropic", "k")
	write("keys", dbcrypttest.NewKey().Text())
	paths, err = read(process, path("env"))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{path("env"), path("openai"), path("anthropic"), path("keys")}, paths)

	paths, err = read(nil, "", environment.KeysFrom(nil, path("keys")))
	require.NoError(t, err)
	require.Equal(t, []string{path("keys")}, paths)
}
