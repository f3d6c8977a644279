//go:build e2e

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

// TestSecretFiles opens every file of secrets to readers, and to writers.
func TestSecretFiles(t *testing.T) {
	t.Parallel()
	w := newOwnerWorld(t)
	w.source = "notify"
	// Not t.TempDir, of which not every folder is open to others.
	dir, err := os.MkdirTemp("", "provwatch-secret files-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	file := func(name, content string) string { return writeFile(t, filepath.Join(dir, name), content) }
	envFile := file("providers.env", "CODER_AIBRIDGE_OPENAI_KEY="+w.secret(openAIKey)+"\n")
	key := dbcrypttest.NewKey()
	w.administrator(key).register(key)
	keys := file("encryption-keys", key.Text()+"\n")
	token := file("http-token", w.secret("token-0123456789-abcdefghij")+"\n")
	secret := file("webhook-secret", w.secret("webhook-secret-0123456789")+"\n")
	urlFile := file("database.url", w.url+"\n")
	singleURLFile := file("single.url", w.url+"\n")
	config := file("provwatch.yaml", "targets:\n  - {name: one, env_file: providers.env, database_url_file: database.url}\n")
	single := []string{"run", "--env-file=" + envFile, "--http-addr=127.0.0.1:0", "--http-token-file=" + token,
		"--webhook-url=http://127.0.0.1:1/", "--webhook-secret-file=" + secret}
	several := []string{"run", "--config=" + config}
	fromFile := []string{"run", "--env-file=" + envFile, "--database-url-file=" + singleURLFile}
	none, withKeys := environ{"DATABASE_URL": ""}, environ{keysFileVariable: keys}
	files := map[string][]string{envFile: single, keys: single, token: single, secret: single, singleURLFile: fromFile, urlFile: several, config: several}
	closeAll := func() {
		for path := range files {
			require.NoError(t, os.Chmod(path, 0o600))
		}
	}

	for path, args := range files {
		closeAll()
		require.NoError(t, os.Chmod(path, 0o666))
		env := none
		if &args[0] == &single[0] {
			env = withKeys
		}
		r := w.run(env, args...)
		require.Equal(t, 3, r.Code, "%s: %s", path, r.Stderr)
		require.Contains(t, r.Stderr, "others may write to it (mode 0666); run: chmod o-w "+path)
		require.Empty(t, r.Stdout)
	}

	const warning = "every user of this machine can read the file"
	closeAll()
	p := w.start(withKeys, single...).ready()
	require.Zero(t, p.logged(warning))
	// A reload warns as well, and refuses a file that others may write to.
	require.NoError(t, os.Chmod(envFile, 0o644))
	p.signal(syscall.SIGHUP)
	p.waitFor("level=WARN", warning, "variable="+fmt.Sprintf("%q", envFile))
	require.NoError(t, os.Chmod(envFile, 0o666))
	p.signal(syscall.SIGHUP)
	p.waitFor("level=ERROR", "the environment cannot be used, keeping the one in use", "others may write to it")
	p.stop()

	for path := range files {
		require.NoError(t, os.Chmod(path, 0o644))
	}
	p = w.start(withKeys, single...).ready()
	for _, path := range []string{envFile, keys, token, secret} {
		require.Equal(t, 1, p.logged("level=WARN", warning, path, "chmod o-r '"+path+"'"), path)
	}
	p.stop()
	p = w.start(none, fromFile...).ready()
	require.Equal(t, 1, p.logged("level=WARN", warning, singleURLFile))
	p.stop()
	p = w.start(none, several...)
	p.waitFor("msg=ready")
	for _, path := range []string{envFile, urlFile} {
		require.Equal(t, 1, p.logged("level=WARN", warning, path), path)
	}
	require.Zero(t, p.logged("level=WARN", warning, config), "which holds no secrets")
	p.stop()

	// In a closed folder no other user can.
	require.NoError(t, os.Chmod(dir, 0o700))
	p = w.start(withKeys, single...).ready()
	require.Zero(t, p.logged(warning), strings.Join(p.lines(), "\n"))
	p.stop()
}
