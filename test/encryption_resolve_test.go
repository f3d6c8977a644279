//go:build e2e

package test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

func TestResolveEncrypted(t *testing.T) {
	t.Parallel()
	t.Run("TakeEnv", testResolveEncryptedTakeEnv)
	t.Run("TakeEnvWithKeys", testResolveEncryptedTakeEnvWithKeys)
	t.Run("Credentials", testResolveEncryptedCredentials)
}

// testResolveEncryptedTakeEnv resolves drifts of encrypted rows. What need not change
// keeps its ciphertext.
func testResolveEncryptedTakeEnv(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	key, older := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	a := w.administrator(key, older)
	a.register(older)
	a.register(key)
	w.insertProvider("bedrock", "aws", "", `display_name = 'Claude', icon = '/claude.svg'`)
	w.exec(`UPDATE ai_providers SET settings = $1`, awsSettings)
	a.rewrite(&older, "aws")
	env := w.awsAndOpenAI().WithKeys(key, older)
	delete(env, "CODER_AIBRIDGE_OPENAI_KEY")
	settings := func() storedSecret { t.Helper(); return a.stored("aws")[0] }
	resolve := func(env environ, args ...string) {
		t.Helper()
		r := w.run(env, append([]string{"resolve", "aws", "--take", "env"}, args...)...)
		require.Equal(t, 0, r.Code, r.Stderr)
		a.requireReadable()
	}
	r := w.run(env, "seed", "--compat=upstream-credentials")
	require.Equal(t, 0, r.Code, r.Stderr)

	// The settings agree, and keep their ciphertext, with --with-keys or without.
	before := settings()
	for _, args := range [][]string{nil, {"--with-keys"}} {
		w.exec(`UPDATE ai_providers SET enabled = false, base_url = 'https://elsewhere.invalid/'`)
		resolve(env, args...)
		require.Equal(t, before, settings(), args)
		require.Equal(t, []string{"true "}, w.strings(`SELECT enabled || ' ' || base_url FROM ai_providers`))
	}

	// Another region alone: all else as it was, byte for byte, encrypted with the first key.
	resolve(env.With("CODER_AIBRIDGE_PROVIDER_0_BEDROCK_REGION", "eu-west-1"))
	require.Equal(t, key.Digest(), settings().KeyID)
	require.Equal(t, strings.Replace(awsSettings, "us-east-1", "eu-west-1", 1), a.plain(settings()))

	// The pair as well, where it is asked for.
	pair := env.With("CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET", w.secret("aws-other-0123456789-abcdef"))
	resolve(pair)
	require.Equal(t, awsSettings, a.plain(settings()))
	resolve(pair, "--with-keys")
	require.Equal(t, strings.Replace(awsSettings, awsSecret, "aws-other-0123456789-abcdef", 1), a.plain(settings()))
	require.Equal(t, []string{"Claude /claude.svg"}, w.strings(`SELECT display_name || ' ' || icon FROM ai_providers`))

	// Without a key nothing is written over what is encrypted, nor in plain text.
	plain := w.awsAndOpenAI()
	delete(plain, "CODER_AIBRIDGE_OPENAI_KEY")
	dump := w.dump()
	for _, args := range [][]string{nil, {"--with-keys"}} {
		r := w.run(plain.With("CODER_AIBRIDGE_PROVIDER_0_BEDROCK_REGION", "eu-west-1"), append([]string{"resolve", "aws", "--take", "env"}, args...)...)
		require.Equal(t, 1, r.Code, r.Stdout)
		require.Contains(t, r.Stderr, keysVariable)
	}
	require.Equal(t, dump, w.dump())
}

// testResolveEncryptedTakeEnvWithKeys replaces the keys that differ.
func testResolveEncryptedTakeEnvWithKeys(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	key, older, unknown := dbcrypttest.NewKey(), dbcrypttest.NewKey(), dbcrypttest.NewKey()
	a := w.administrator(key, older, unknown)
	for _, k := range []dbcrypttest.Key{older, unknown, key} {
		a.register(k)
	}
	env, first, second := w.oneProviderWithTwoKeys()
	r := w.run(env.WithKeys(older), "seed")
	require.Equal(t, 0, r.Code, r.Stderr)
	byPlain := func() map[string]storedSecret {
		t.Helper()
		rows := map[string]storedSecret{}
		for _, s := range a.stored("proxy") {
			rows[a.plain(s)] = s
		}
		return rows
	}
	before := byPlain()
	require.Len(t, before, 2)

	third := w.secret("sk-third-0123456789-abcdef")
	env = env.With("CODER_AIBRIDGE_PROVIDER_0_KEYS", third+","+first).WithKeys(key, older)
	r = w.run(env, "resolve", "proxy", "--take", "env", "--with-keys", "--credential-drift=alert")
	require.Equal(t, 0, r.Code, r.Stderr)
	after := byPlain()
	require.Len(t, after, 2)
	require.Equal(t, before[first], after[first], "an equal key keeps its row")
	require.Equal(t, key.Digest(), after[third].KeyID)
	require.NotContains(t, after, second)
	a.requireReadable()

	// A stored key that cannot be decrypted is replaced.
	a.write(after[first], first, &unknown)
	r = w.run(env, "verify", "--credential-drift=alert")
	require.Equal(t, 1, r.Code, r.Stdout)
	r = w.run(env, "resolve", "proxy", "--take", "env", "--with-keys", "--credential-drift=alert")
	require.Equal(t, 0, r.Code, r.Stderr)
	now := byPlain()
	require.Equal(t, after[third], now[third])
	require.Equal(t, key.Digest(), now[first].KeyID)
	require.NotEqual(t, after[first].ID, now[first].ID)
	r = w.run(env, "verify", "--credential-drift=alert")
	require.Equal(t, 0, r.Code, r.Stdout)
}

// testResolveEncryptedCredentials compares credentials of encrypted rows, in the watch and at
// the start.
func testResolveEncryptedCredentials(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		key := dbcrypttest.NewKey()
		a := w.administrator(key)
		a.register(key)
		env, first, _ := w.oneProviderWithTwoKeys()
		env = env.WithKeys(key)
		flags := []string{"--credential-drift=alert", "--compat=upstream-credentials"}
		run := append([]string{"run"}, flags...)
		w.start(env, run...).ready().stop()
		p := w.start(env, run...).ready()
		a.rewrite(&key, "proxy") // other ciphertexts of the same keys
		a.replace("proxy", first, w.secret("sk-rotated-0123456789-abcdef"))
		w.expectAlerts("changed proxy")
		require.Equal(t, []string{`[{"db": "2, of these 1 not in the environment", "env": "2, of these 1 not in the database", "name": "api_keys"}]`},
			w.strings(`SELECT fields::text FROM provwatch.drift_alerts`))
		r := w.run(env, append([]string{"verify"}, flags...)...)
		require.Equal(t, 2, r.Code, r.Stdout)
		p.stop()
		r = w.run(env, run...)
		require.Equal(t, 2, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, `AI provider "proxy" already exists in the database and differs`)

		p = w.start(env, "run", "--credential-drift=alert", "--compat=upstream-credentials", "--on-boot-drift=alert").ready()
		a.replace("proxy", "sk-rotated-0123456789-abcdef", first)
		w.expectAlerts("changed proxy", "resolved proxy")
		p.stop()
		w.start(env, run...).ready().stop()
	})
}
