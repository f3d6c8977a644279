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

// TestKeySources reads keys from the process's variables, from
// the environment file, and from a file that either names.
func TestKeySources(t *testing.T) {
	const name, nameOfFile = dbcrypt.KeysVariable, dbcrypt.KeysFileVariable
	process, file, own := dbcrypttest.NewKey(), dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	keysFile, ownFile := write("keys", file.Text()+"\n"), write("own", own.Text())
	damaged := write("damaged", "q7zleak")
	const provider = "CODER_AIBRIDGE_OPENAI_KEY=k\n"
	for title, c := range map[string]struct {
		environ []string
		envFile string // its content; empty for no file
		options []environment.Option
		digests []string
		path    string
		problem string
	}{
		"none":                               {environ: []string{"CODER_AIBRIDGE_OPENAI_KEY=k"}, digests: []string{}},
		"the process's":                      {environ: []string{name + "=" + process.Text() + "," + own.Text()}, digests: []string{process.Digest(), own.Digest()}},
		"the process's file":                 {environ: []string{nameOfFile + "=" + keysFile}, digests: []string{file.Digest()}, path: keysFile},
		"the process's, beside a file":       {environ: []string{name + "=" + process.Text()}, envFile: provider, digests: []string{process.Digest()}},
		"the file's":                         {envFile: provider + name + "=" + file.Text(), digests: []string{file.Digest()}},
		"the file's, quoted":                 {envFile: name + `="` + file.Text() + `"`, digests: []string{file.Digest()}},
		"the file's before the process's":    {environ: []string{name + "=" + process.Text()}, envFile: name + "=" + file.Text(), digests: []string{file.Digest()}},
		"the file's file before the process": {environ: []string{name + "=" + process.Text()}, envFile: nameOfFile + "=" + keysFile, digests: []string{file.Digest()}, path: keysFile},
		"empty ones do not count":            {environ: []string{name + "=" + process.Text()}, envFile: name + "=\n" + nameOfFile + "=", digests: []string{process.Digest()}},
		"those of a target":                  {envFile: provider, options: []environment.Option{environment.KeysFrom([]string{name + "=" + process.Text()}, "")}, digests: []string{process.Digest()}},
		"a target's own file":                {envFile: name + "=" + file.Text(), options: []environment.Option{environment.KeysFrom([]string{name + "=" + process.Text()}, ownFile)}, digests: []string{own.Digest()}, path: ownFile},
		"both":                               {environ: []string{name + "=" + process.Text(), nameOfFile + "=" + keysFile}, problem: nameOfFile + ": cannot be set together with " + name},
		"both in the file":                   {envFile: name + "=" + process.Text() + "\n" + nameOfFile + "=" + keysFile, problem: nameOfFile + ": cannot be set together with " + name},
		"damaged":                            {environ: []string{name + "=q7zleak"}, problem: name + ": key 1 of the list is not base64"},
		"damaged, in a file":                 {environ: []string{nameOfFile + "=" + damaged}, problem: nameOfFile + ": the file " + damaged + ": key 1 of the list is not base64"},
		"damaged, a target's own":            {options: []environment.Option{environment.KeysFrom(nil, damaged)}, problem: damaged + ": the file " + damaged + ": key 1 of the list is not base64"},
		"no such file":                       {envFile: nameOfFile + "=" + keysFile + "x", problem: nameOfFile + ": the file " + keysFile + "x cannot be read: no such file"},
		"a line that cannot be parsed":       {envFile: provider + name + `="q7zleak`, problem: "line 2: "},
		"beside an error of a provider":      {environ: []string{name + "=q7zleak", "CODER_AIBRIDGE_PROVIDER_1_TYPE=openai"}, problem: "2 errors in the environment"},
	} {
		t.Run(title, func(t *testing.T) {
			envFile := ""
			if c.envFile != "" {
				envFile = write("env-"+strings.ReplaceAll(t.Name(), "/", "_"), c.envFile)
			}
			env, err := environment.Read(c.environ, envFile, c.options...)
			keys, alone := environment.ReadKeys(c.environ, envFile, c.options...)
			if c.problem != "" {
				var failed *environment.Error
				require.ErrorAs(t, err, &failed)
				require.ErrorContains(t, err, c.problem)
				require.ErrorAs(t, alone, &failed)
				require.NotContains(t, err.Error()+alone.Error(), "q7zleak")
				require.NotContains(t, err.Error()+alone.Error(), process.Text())
				require.Empty(t, env.Providers)
				return
			}
			require.NoError(t, err)
			require.NoError(t, alone)
			require.Equal(t, c.digests, env.Keys.Digests())
			require.Equal(t, c.digests, keys.Digests())
			if c.path != "" {
				require.Equal(t, c.path, env.Files[len(env.Files)-1].Path)
			}
			for _, warning := range env.Warnings {
				require.NotContains(t, warning.String(), "ENCRYPTION_KEYS")
			}
		})
	}
	prefixed, err := environment.Read([]string{"A_OPENAI_KEY=k", name + "=" + process.Text()}, "", environment.Prefix("A_"))
	require.NoError(t, err)
	require.Equal(t, []string{process.Digest()}, prefixed.Keys.Digests())
}
