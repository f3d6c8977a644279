package test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWithCompatARotatedKeyFailsAStartUntilItIsResolved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env, first, second := w.oneProviderWithTwoKeys()
	env = env.with("PROVWATCH_COMPAT", "upstream-credentials")
	w.start(env, "run").ready().stop()
	w.start(env.with("CODER_AIBRIDGE_PROVIDER_0_KEYS", second+","+first), "run").ready().stop()

	third := w.secret("sk-third-0123456789-abcdef")
	env = env.with("CODER_AIBRIDGE_PROVIDER_0_KEYS", first+","+third)
	want := `worker: AI provider "proxy" already exists in the database and differs from the current environment configuration: ` +
		`api_keys (environment "2, of these 1 not in the database", database "2, of these 1 not in the environment"); ` +
		`with --compat=upstream-credentials credentials must agree as well: either set those of the database in the environment (CODER_AIBRIDGE_PROVIDER_0_KEYS), ` +
		`or write the environment's to the database with "worker resolve proxy --take env --with-keys", or drop --compat=upstream-credentials` + "\n"
	before := w.dump()
	r := w.run(env, "run")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, want)
	require.Equal(t, result{2, "", want}, w.run(env, "seed"))
	r = w.run(env, "seed", "--dry-run")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.squeezed().stdout, "~ proxy drift api_keys 2, of these 1 not in the database")
	// Whatever --credential-drift says, since a start would fail.
	r = w.run(env, "verify", "--credential-drift=warn")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.squeezed().stdout, "proxy changed api_keys 2, of these 1 not in the database 2, of these 1 not in the environment")
	require.Equal(t, 0, w.run(env, "verify", "--compat=none").code)
	r = w.run(env, "resolve", "proxy", "--take", "db")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "that cannot be accepted with --compat=upstream-credentials")
	require.Equal(t, before, w.dump())

	// The ways out: the watch alone minds them, or nobody, or both sides agree.
	p := w.start(env, "run", "--on-boot-drift=alert", "--credential-drift=alert").ready()
	w.expectAlerts("changed proxy")
	p.stop()
	w.start(env, "run", "--compat=none", "--credential-drift=alert").ready().stop()
	r = w.run(env, "resolve", "proxy", "--take", "env", "--with-keys")
	require.Equal(t, 0, r.code, r.stderr)
	p = w.start(env, "run", "--credential-drift=alert").ready()
	w.expectAlerts("changed proxy", "resolved proxy")
	// A key that is rotated while a worker runs is the watch's alone.
	w.exec(`DELETE FROM ai_provider_keys WHERE api_key = $1`, third)
	w.expectAlerts("changed proxy", "resolved proxy", "changed proxy")
	p.stop()
	require.Equal(t, 2, w.run(env, "run").code)
	require.Equal(t, []string{"true"}, w.strings(`SELECT DISTINCT (env_hash = db_hash)::text FROM provwatch.drift_alerts`), "the hashes published are canonical")
}
