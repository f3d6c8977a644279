//go:build e2e

package test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

func TestEncryptionKeys(t *testing.T) {
	t.Parallel()
	t.Run("NoLongerActive", testEncryptionKeysNoLongerActive)
	t.Run("OfTheEnvironment", testEncryptionKeysOfTheEnvironment)
	t.Run("Unusable", testEncryptionKeysUnusable)
	t.Run("UnusableAtReload", testEncryptionKeysUnusableAtReload)
}

// testEncryptionKeysNoLongerActive revokes the key while a worker runs.
func testEncryptionKeysNoLongerActive(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		first, second := dbcrypttest.NewKey(), dbcrypttest.NewKey()
		a := w.administrator(first, second)
		a.register(first)
		env := w.awsAndOpenAI().WithKeys(first, second)
		file := w.file("providers.env", env.File())
		p := w.start(nil, "run", "--http-addr=127.0.0.1:0", "--env-file="+file, "--resync=1h").ready()
		a.rewrite(nil, "aws", "openai")
		a.revoke(first)
		p.reload(file, env) // with the next resync it would be noticed too
		p.becomes(http.StatusServiceUnavailable, "secrets cannot be encrypted: ", first.Digest()+" (revoked)")
		// What changes meanwhile is alerted all the same.
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		// No notification comes of this key.
		a.register(second)
		p.becomes(http.StatusOK)
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("disabled openai", "resolved openai")
		p.stop()
	})
}

// testEncryptionKeysOfTheEnvironment gives the keys in each way that there is.
func testEncryptionKeysOfTheEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	key, other := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	a := w.administrator(key, other)
	a.register(key)
	keyFile := w.file("keys", dbcrypttest.List(other, key)+"\n")
	env := w.awsAndOpenAI()
	providers := w.file("providers.env", env.File())
	withKeys := w.file("with-keys.env", env.WithKeys(key).File())
	withKeyFile := w.file("with-key-file.env", env.With(keysFileVariable, keyFile).File())
	for name, c := range map[string]struct {
		env     environ
		envFile string
	}{
		"Variable":                        {env: env.WithKeys(other, key)},
		"File":                            {env: env.With(keysFileVariable, keyFile)},
		"EnvFile":                         {envFile: withKeys},
		"EnvFileNamesAFile":               {envFile: withKeyFile},
		"ProcessBesideAnEnvFile":          {env: environ{}.WithKeys(key), envFile: providers},
		"TheEnvFileComesFirst":            {env: environ{}.WithKeys(other), envFile: withKeys},
		"TheEnvFileComesFirstOfAFile":     {env: environ{}.WithKeys(other), envFile: withKeyFile},
		"TheEnvFileComesFirstBeforeAFile": {env: environ{keysFileVariable: "/nowhere"}, envFile: withKeys},
	} {
		args := []string{"seed"}
		if c.envFile != "" {
			args = append(args, "--env-file="+c.envFile)
		}
		r := w.run(c.env, args...)
		require.Equal(t, 0, r.Code, "%s: %s", name, r.Stderr)
		require.NotContains(t, r.Stderr, "level=WARN", name)
		require.Equal(t, []string{key.Digest()}, a.digests(), name)
		w.exec(`DELETE FROM ai_providers`)
	}

	// One of several databases has a file of its own.
	config := w.file("provwatch.yaml", fmt.Sprintf("targets:\n  - {name: one, env_file: %s, database_url_file: %s, encryption_keys_file: %s}\n",
		providers, w.file("database.url", w.url), keyFile))
	r := w.run(environ{"DATABASE_URL": ""}.WithKeys(other), "seed", "--config="+config, "--target=one")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Equal(t, []string{key.Digest()}, a.digests())
}

// testEncryptionKeysUnusable is refused before anything connects, and shows nothing of
// the keys.
func testEncryptionKeysUnusable(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	key := dbcrypttest.NewKey()
	w.secret(key.Text())
	short := w.secret(base64.StdEncoding.EncodeToString([]byte("made-up-key-of-31-bytes-0123456")))
	noBase64 := w.secret("made-up-and-no-base64?")
	keyFile := w.file("keys", dbcrypttest.List(key))
	env := w.awsAndOpenAI().With("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
	for name, c := range map[string]struct {
		env               environ
		inEnvFile         bool
		variable, problem string
	}{
		"Both":            {environ{keysVariable: key.Text(), keysFileVariable: keyFile}, false, keysFileVariable, "cannot be set together with " + keysVariable},
		"BothInTheFile":   {environ{keysVariable: key.Text(), keysFileVariable: keyFile}, true, keysFileVariable, "cannot be set together with " + keysVariable},
		"Short":           {environ{keysVariable: key.Text() + "," + short}, false, keysVariable, "key 2 of the list has "},
		"NoBase64":        {environ{keysVariable: noBase64}, false, keysVariable, "key 1 of the list is not base64"},
		"NoBase64InAFile": {environ{keysFileVariable: w.file("damaged", noBase64)}, false, keysFileVariable, "key 1 of the list is not base64"},
		"Twice":           {environ{keysVariable: key.Text() + "," + key.Text()}, true, keysVariable, "keys 1 and 2 of the list have one digest, " + key.Digest()},
		"NoFile":          {environ{keysFileVariable: filepath.Join(t.TempDir(), "none")}, false, keysFileVariable, "cannot be read: no such file"},
	} {
		with, args := environ{}, []string{}
		for _, more := range []environ{env, c.env} {
			for variable, value := range more {
				with[variable] = value
			}
		}
		if c.inEnvFile {
			args = []string{"--env-file=" + w.file("providers.env", c.env.File())}
			with = env
		}
		for _, command := range [][]string{{"run"}, {"seed"}, {"seed", "--dry-run"}, {"verify"}, {"resolve", "openai", "--take", "env"}} {
			r := w.run(with, append(command, args...)...)
			require.Equal(t, 3, r.Code, "%s, %s: %s", name, command, r.Stderr)
			require.Contains(t, r.Stderr, c.variable, "%s, %s", name, command)
			require.Contains(t, r.Stderr, c.problem, "%s, %s", name, command)
		}
	}
}

// testEncryptionKeysUnusableAtReload checks that such a reload changes nothing.
func testEncryptionKeysUnusableAtReload(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		key := dbcrypttest.NewKey()
		a := w.administrator(key)
		a.register(key)
		keyFile := w.file("keys", dbcrypttest.List(key))
		env := w.awsAndOpenAI().With(keysFileVariable, keyFile)
		file := w.file("providers.env", env.File())
		p := w.start(nil, "run", "--http-addr=127.0.0.1:0", "--env-file="+file).ready()
		refused := func() int {
			return p.logged("level=ERROR", "the environment cannot be used, keeping the one in use", keysFileVariable)
		}
		for _, spoil := range []func(){
			func() { w.rewrite(keyFile, w.secret("made-up-and-no-base64?")) },
			func() { require.NoError(t, os.Remove(keyFile)) },
			// In this order, since the worker can notice each by itself.
			func() { w.rewrite(file, env.WithKeys(key).File()); w.rewrite(keyFile, dbcrypttest.List(key)) },
		} {
			before := refused()
			spoil()
			p.signal(syscall.SIGHUP)
			eventually(t, func() bool { return refused() > before }, "the reload is refused:\n%s", lazily(p.lines))
		}
		require.Zero(t, p.logged("environment reloaded"))
		// The key in use still decrypts.
		a.rewrite(&key, "aws", "openai")
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		code, body := p.get("/readyz")
		require.Equal(t, http.StatusOK, code, body)
		require.NotContains(t, body, "aws")
		p.stop()
	})
}
