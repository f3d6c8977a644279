//go:build e2e

package test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

// testStatusEncryptedRows has "worker status" and the status page compare encrypted rows
// as they are now, with the keys of the environment.
func testStatusEncryptedRows(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	key, next := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	a := w.administrator(key, next)
	a.register(key)
	env := w.awsAndOpenAI()
	file := w.file("providers.env", env.WithKeys(key).File())
	p := w.start(nil, "run", "--http-addr=127.0.0.1:0", "--env-file="+file).ready()
	status := func(keys ...dbcrypttest.Key) string {
		t.Helper()
		// As a role that may read settings: to another one what was recorded is shown.
		r := w.run(env.WithKeys(keys...).With("DATABASE_URL", w.url), "status")
		require.Equal(t, 0, r.Code, r.Stderr)
		return r.Stdout
	}
	page := func() string {
		t.Helper()
		_, body := p.get("/")
		state := regexp.MustCompile(`(?s)<th [^>]*><bdi>aws</bdi>.*?<span class="state (\w+)">`).FindStringSubmatch(body)
		require.NotNil(t, state, body)
		return state[1]
	}
	require.Regexp(t, `aws +in sync`, status(key))
	require.Regexp(t, `aws +not comparable`, status())
	require.Equal(t, "in_sync", page())

	// The page has the keys of a reload.
	a.register(next)
	p.reload(file, env.WithKeys(next, key))
	a.rewrite(&next, "aws")
	require.Regexp(t, `aws +in sync`, status(key, next))
	require.Regexp(t, `aws +not comparable`, status(key))
	require.Equal(t, "in_sync", page())
	p.stop()
}
