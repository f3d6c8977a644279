//go:build e2e

package test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// testTargetsSettings has two targets, one with settings of its own: each setting, and each
// command of an operator, is about its target alone.
func testTargetsSettings(t *testing.T) {
	t.Parallel()
	own, plain := newOwnerWorld(t), newOwnerWorld(t)
	dir := t.TempDir()
	ownEnv := writeFile(t, filepath.Join(dir, "own.env"), own.atHost("one"))
	plainEnv := writeFile(t, filepath.Join(dir, "plain.env"), plain.atHost("one"))
	file := writeFile(t, filepath.Join(dir, "provwatch.yaml"), `
targets:
  - {name: own, env_file: own.env, database_url_env: OWN_URL, on_boot_drift: apply, on_reload_drift: apply, alert_after: 1h, keep: 90d}
  - {name: plain, env_file: plain.env, database_url_env: PLAIN_URL, on_boot_drift: alert}
`)
	env := environ{"DATABASE_URL": "", "PROVWATCH_SOURCE": "notify", "PROVWATCH_CONFIG": file, "OWN_URL": own.url, "PLAIN_URL": plain.url}
	command := func(code int, args ...string) result {
		t.Helper()
		r := own.run(env, args...)
		require.Equal(t, code, r.Code, "%q: %s%s", args, r.Stdout, r.Stderr)
		return r
	}
	command(0, "seed", "--target=own")
	command(0, "seed", "--target=plain")
	for _, w := range []*world{own, plain} {
		w.delivered(`SELECT ''`)
		w.grow(0)
	}

	// The environments have changed while no worker runs. One target applies that.
	own.rewrite(ownEnv, own.atHost("two"))
	plain.rewrite(plainEnv, plain.atHost("two"))
	require.Contains(t, command(2, "plan", "--target=plain").Stdout, "https://two/v1")
	p := own.start(env, "run", "--http-addr=127.0.0.1:0").ready()
	p.waitFor("provider updated from the environment", "target=own", "https://two/v1")
	p.waitFor("old rows pruned", "target=own", "audit_entries=")
	plain.expectAlerts("changed openai")
	require.Equal(t, []string{"openai https://two/v1"}, own.baseURLs())
	require.Equal(t, []string{"openai https://one/v1"}, plain.baseURLs())

	// Silences are of one database, and so is what is applied by hand.
	command(0, "silence", "--all", "--for=1h", "--reason=maintenance", "--target=plain")
	require.Contains(t, command(0, "silences", "--target=plain").Stdout, "maintenance")
	require.NotContains(t, command(0, "silences", "--target=own").Stdout, "maintenance")
	command(0, "unsilence", "1", "--target=plain")
	require.Contains(t, command(1, "unsilence", "1", "--target=own").Stderr, "no silence")
	command(0, "apply", "--target=plain")
	plain.expectAlerts("changed openai", "resolved openai")
	require.Equal(t, []string{"openai https://two/v1"}, plain.baseURLs())

	// Both files are read again by themselves.
	own.rewrite(ownEnv, own.atHost("three"))
	plain.rewrite(plainEnv, plain.atHost("three"))
	plain.expectAlerts("changed openai", "resolved openai", "changed openai")
	p.waitFor("provider updated from the environment", "target=own", "https://three/v1")
	require.Equal(t, []string{"openai https://three/v1"}, own.baseURLs())
	require.Equal(t, []string{"openai https://two/v1"}, plain.baseURLs())

	// A drift is held back in one target.
	own.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere/v1'`)
	p.waitFor("drift pending", "target=own", "provider=openai")
	require.Contains(t, command(0, "status", "--target=own").Stdout, "pending")
	require.Empty(t, own.alerts())

	require.Contains(t, command(0, "prune", "--older-than=90d", "--dry-run", "--target=plain").Stdout, "audit entries")
	require.Equal(t, 0, plain.count(`SELECT count(*) FROM provwatch.pruned`))
	require.Equal(t, 1, own.count(`SELECT count(*) FROM provwatch.pruned`))
	command(0, "prune", "--older-than=90d", "--target=plain")
	require.Equal(t, 1, plain.count(`SELECT count(*) FROM provwatch.pruned`))
	p.stop()
	require.Zero(t, p.logged("old rows pruned", "target=plain"))
	require.Zero(t, p.logged("provider updated from the environment", "target=plain"))
}
