//go:build e2e

package test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCompat(t *testing.T) {
	t.Parallel()
	t.Run("RotatedKeyFailsStart", testCompatRotatedKeyFailsStart)
	t.Run("EntriesOfOneName", testCompatEntriesOfOneName)
}

func testCompatRotatedKeyFailsStart(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	env, first, second := w.oneProviderWithTwoKeys()
	env = env.With("PROVWATCH_COMPAT", "upstream-credentials")
	w.start(env, "run").ready().stop()
	w.start(env.With("CODER_AIBRIDGE_PROVIDER_0_KEYS", second+","+first), "run").ready().stop()

	third := w.secret("sk-third-0123456789-abcdef")
	env = env.With("CODER_AIBRIDGE_PROVIDER_0_KEYS", first+","+third)
	want := `worker: AI provider "proxy" already exists in the database and differs from the current environment configuration: ` +
		`api_keys (environment "2, of these 1 not in the database", database "2, of these 1 not in the environment"); ` +
		`with --compat=upstream-credentials credentials must agree as well: either set those of the database in the environment (CODER_AIBRIDGE_PROVIDER_0_KEYS), ` +
		`or write the environment's to the database with "worker resolve proxy --take env --with-keys --compat upstream-credentials", or drop --compat=upstream-credentials` + "\n" +
		`or start all the same, seeding what is missing and alerting what differs: "worker run --on-boot-drift=alert --credential-drift=alert --compat upstream-credentials"` + "\n"
	before := w.dump()
	r := w.run(env, "run")
	require.Equal(t, 2, r.Code)
	require.Contains(t, r.Stderr, want)
	require.Equal(t, result{Code: 2, Stderr: want}, w.run(env, "seed"))
	r = w.run(env, "seed", "--dry-run")
	require.Equal(t, 2, r.Code)
	require.Contains(t, r.Squeezed().Stdout, "~ proxy drifted api_keys 2, of these 1 not in the database")
	// Whatever --credential-drift says, since a start would fail.
	r = w.run(env, "verify", "--credential-drift=warn")
	require.Equal(t, 2, r.Code)
	require.Contains(t, r.Squeezed().Stdout, "proxy changed moved: not known api_keys 2, of these 1 not in the database 2, of these 1 not in the environment")
	require.Equal(t, 0, w.run(env, "verify", "--compat=none").Code)
	r = w.run(env, "resolve", "proxy", "--take", "db")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, "that cannot be accepted with --compat=upstream-credentials")
	refused := result{Code: 1, Stderr: `worker: resolve provider "proxy": its credentials differ: ` +
		`api_keys (environment "2, of these 1 not in the database", database "2, of these 1 not in the environment"); ` +
		"stored credentials may have been rotated, and are not overwritten unasked: repeat with --with-keys to replace them by the environment's, " +
		"or set those of the database in the environment (CODER_AIBRIDGE_PROVIDER_0_KEYS)\n"}
	require.Equal(t, refused, w.run(env, "resolve", "proxy", "--take", "env"))
	require.Equal(t, refused, w.run(env, "resolve", "proxy", "--take", "env", "--compat=none", "--credential-drift=alert"))
	r = w.run(env, "resolve", "proxy", "--take", "env", "--compat=none")
	require.Equal(t, result{Code: 0, Stdout: "proxy already agrees with the environment; nothing was written.\n"}, r, "credentials are nobody's matter")
	require.Equal(t, before, w.dump())

	// The ways out: the watch alone minds them, or nobody, or both sides agree.
	p := w.start(env, "run", "--on-boot-drift=alert", "--credential-drift=alert").ready()
	w.expectAlerts("changed proxy")
	p.stop()
	w.start(env, "run", "--compat=none", "--credential-drift=alert").ready().stop()
	r = w.run(env, "resolve", "proxy", "--take", "env", "--with-keys")
	require.Equal(t, 0, r.Code, r.Stderr)
	p = w.start(env, "run", "--credential-drift=alert").ready()
	w.expectAlerts("changed proxy", "resolved proxy")
	// A key that is rotated while a worker runs is the watch's alone.
	w.exec(`DELETE FROM ai_provider_keys WHERE api_key = $1`, third)
	w.expectAlerts("changed proxy", "resolved proxy", "changed proxy")
	p.stop()
	require.Equal(t, 2, w.run(env, "run").Code)
	require.Equal(t, []string{"true"}, w.strings(`SELECT DISTINCT (env_hash = db_hash)::text FROM provwatch.drift_alerts`), "the hashes published are canonical")

	// Where fields differ as well they are written, and the keys stay.
	w.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere.example/v1'`)
	r = w.run(env, "resolve", "proxy", "--take", "env")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Equal(t, block(`
		proxy was changed; the environment's fields are written, its keys are not, and still differ: repeat with --with-keys to replace those stored.
		FIELD     ENVIRONMENT               DATABASE
		base_url  https://proxy.example/v1  https://elsewhere.example/v1
		Audit entries are staged. No worker runs; the next one delivers them.
		`), r.Stdout)
	require.Equal(t, []string{`[{"new": "https://proxy.example/v1", "old": "https://elsewhere.example/v1", "field": "base_url"}]`},
		w.strings(`SELECT details ->> 'changes' FROM provwatch.audit_outbox WHERE action = 'provider.update' ORDER BY seq DESC LIMIT 1`))
	require.Equal(t, []string{first}, w.strings(`SELECT api_key FROM ai_provider_keys`))
	require.Equal(t, 1, w.run(env, "resolve", "proxy", "--take", "env").Code, "its credentials differ")
}
