//go:build e2e

package test

import (
	"encoding/json"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// mayApply has "worker run" connect as a role that may write what the environment has changed.
func (w *world) mayApply() {
	w.t.Helper()
	role := "test_applier_" + w.source
	w.createRole(role, "REPLICATION IN ROLE provwatch_"+w.source+", provwatch_applier")
	w.login["run"], w.login["apply"], w.login["plan"] = role, "test_operator", "test_operator"
}

// atHost returns an environment of one provider, for a file.
func (w *world) atHost(host string) string {
	return "CODER_AIBRIDGE_OPENAI_KEY=" + w.secret(openAIKey) + "\nCODER_AIBRIDGE_OPENAI_BASE_URL=https://" + host + "/v1\n"
}

// baseURLs returns the base URL of each provider.
func (w *world) baseURLs() []string {
	w.t.Helper()
	return w.strings(`SELECT name || ' ' || base_url FROM ai_providers WHERE NOT deleted ORDER BY name`)
}

func TestApply(t *testing.T) {
	t.Parallel()
	t.Run("AtBoot", func(t *testing.T) { bothSourcesOf(t, newWorldWithoutRows, testApplyAtBoot) })
	t.Run("AtReload", func(t *testing.T) { bothSourcesOf(t, newWorldWithoutRows, testApplyAtReload) })
	t.Run("Command", func(t *testing.T) { bothSourcesOf(t, newWorldWithoutRows, testApplyCommand) })
	t.Run("Refused", testApplyRefused)
}

// testApplyAtBoot changes the environment while no worker runs. A start writes that, and nothing
// is alerted. A row that changed itself fails the start, and nothing is written.
func testApplyAtBoot(t *testing.T, w *world) {
	w.mayApply()
	file := w.file("providers.env", w.atHost("one"))
	run := []string{"run", "--env-file", file, "--on-boot-drift=apply"}
	p := w.start(nil, run...).ready()
	p.kill9()

	w.rewrite(file, w.atHost("two"))
	r := w.run(nil, "seed", "--env-file", file)
	require.Equal(t, 2, r.Code)
	require.Contains(t, r.Stderr, `or write what the environment has changed with "`)
	require.Contains(t, r.Stderr, ` apply openai --env-file`)
	require.Equal(t, []string{"openai https://one/v1"}, w.baseURLs())
	w.exec(`UPDATE ai_providers SET enabled = false, updated_at = '2020-01-01'`)
	p = w.start(nil, run...).ready()
	p.waitFor("provider updated from the environment", "provider=openai", "https://one/v1", "https://two/v1")
	p.waitFor("seed done", "applied=1")
	require.Equal(t, []string{"openai https://two/v1"}, w.baseURLs())
	require.Equal(t, []string{"false"}, w.strings(`SELECT enabled::text FROM ai_providers`))
	w.exec(`UPDATE ai_providers SET enabled = true`)
	w.expectAlerts("disabled openai", "resolved openai")
	require.Equal(t, []string{"provider.create system", "provider_key.create system", "provider.update system"},
		w.delivered(`SELECT action || ' ' || actor FROM provwatch.audit_log ORDER BY seq`))
	require.Contains(t, w.payloads(pubsub.ProvidersChanged), w.strings(`SELECT id::text FROM ai_providers`)[0])
	p.stop()

	w.exec(`UPDATE ai_providers SET base_url = 'https://rotated/v1'`)
	w.rewrite(file, w.atHost("three"))
	before := w.dump()
	r = w.run(nil, run...)
	require.Equal(t, 2, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "(moved: both)")
	require.Contains(t, r.Stderr, "it was not applied: the database has changed its base_url since both sides last agreed")
	require.Equal(t, before, w.dump())
	w.searchForSecrets()
}

// testApplyAtReload changes the environment of a running worker: what it changes is written
// without an alert, a new provider is seeded, and what the database has changed is alerted.
func testApplyAtReload(t *testing.T, w *world) {
	w.mayApply()
	file := w.file("providers.env", w.atHost("one"))
	p := w.start(nil, "run", "--env-file", file, "--on-reload-drift=apply", "--env-reload=signal").ready()
	reload := func(content string) {
		t.Helper()
		before := p.logged("environment reloaded")
		w.rewrite(file, content)
		p.signal(syscall.SIGHUP)
		eventually(t, func() bool { return p.logged("environment reloaded") > before }, "the environment is read again")
	}
	reload(w.atHost("two"))
	require.Equal(t, []string{"openai https://two/v1"}, w.baseURLs())
	require.Equal(t, 1, p.logged("provider updated from the environment", "provider=openai"))
	w.exec(`UPDATE ai_providers SET base_url = 'https://rogue/v1'`)
	w.expectAlerts("changed openai")
	reload(w.atHost("three") + "CODER_AIBRIDGE_ANTHROPIC_KEY=" + w.secret(anthropicKey) + "\n")
	w.expectAlerts("changed openai", "changed openai")
	require.Equal(t, []string{"anthropic https://api.anthropic.com/", "openai https://rogue/v1"}, w.baseURLs())
	require.Equal(t, 1, p.logged("level=WARN", "provider was not applied", "provider=openai", "the database has changed its base_url"))
	require.Equal(t, []string{"database", "both"}, w.strings(`SELECT moved FROM provwatch.drift_alerts ORDER BY seq`))
	w.exec(`DELETE FROM ai_providers WHERE name = 'anthropic'`)
	w.expectAlerts("changed openai", "changed openai", "missing anthropic")
	reload(w.atHost("three") + "CODER_AIBRIDGE_ANTHROPIC_KEY=" + w.secret(anthropicKey) + "\n")
	require.Equal(t, []string{"openai https://rogue/v1"}, w.baseURLs(), "a row that somebody deleted is not inserted again")
	p.stop()
	w.searchForSecrets()
}

// testApplyCommand plans and applies by hand beside a running worker.
func testApplyCommand(t *testing.T, w *world) {
	w.mayApply()
	file := w.file("providers.env", w.atHost("one"))
	p := w.start(nil, "run", "--env-file", file, "--env-reload=signal").ready()
	r := w.run(nil, "plan", "--env-file", file)
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, "Plan: 0 to update, 0 to insert, 0 refused, 0 skipped, 0 not comparable, 1 unchanged.")
	w.rewrite(file, w.atHost("two"))
	p.signal(syscall.SIGHUP)
	w.expectAlerts("changed openai")
	before := w.dumpBesideWorker()
	r = w.run(nil, "plan", "--env-file", file)
	require.Equal(t, 2, r.Code, r.Stderr)
	require.Regexp(t, `~ +openai +update +base_url +https://two/v1 +https://one/v1 +environment +yes`, r.Stdout)
	require.Equal(t, before, w.dumpBesideWorker())
	r = w.run(nil, "apply", "openai", "--env-file", file, "--reason=moved", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	var printed struct {
		DryRun   bool `json:"dry_run"`
		Reason   string
		Outcomes []struct {
			Provider, Action, Moved string
			Fields                  []struct {
				Name, Env, DB, Moved string
				Written              bool
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.Stdout), &printed))
	require.False(t, printed.DryRun)
	require.Equal(t, "moved", printed.Reason)
	require.Equal(t, "update", printed.Outcomes[0].Action)
	require.Equal(t, "environment", printed.Outcomes[0].Moved)
	require.True(t, printed.Outcomes[0].Fields[0].Written)
	w.expectAlerts("changed openai", "resolved openai")
	require.Equal(t, []string{"resolved_by_operator"}, w.strings(`SELECT how FROM provwatch.drift_alerts WHERE seq = 2`))
	entries := w.delivered(`SELECT concat_ws(' ', action, details->>'reason') FROM provwatch.audit_log WHERE actor LIKE 'operator:role=test_operator%'`)
	require.Equal(t, []string{"provider.update moved"}, entries)
	require.Equal(t, 0, w.run(nil, "plan", "--env-file", file).Code)
	p.stop()
	w.searchForSecrets()
}

// testApplyRefused has calls that write nothing.
func testApplyRefused(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "notify")
	file := w.file("providers.env", w.atHost("one"))
	require.Equal(t, 0, w.run(nil, "seed", "--env-file", file).Code)
	w.exec(`UPDATE ai_providers SET base_url = 'https://rogue/v1'`)
	before := w.dump()
	for _, command := range []string{"plan", "apply"} {
		w.login[command] = "test_operator"
		r := w.run(nil, command, "--env-file", file)
		require.Equal(t, 2, r.Code, r.Stderr)
		require.Contains(t, r.Stdout, "openai refused: the database has changed its base_url since both sides last agreed.")
		r = w.run(nil, command, "opena", "--env-file", file)
		require.Equal(t, 3, r.Code)
		require.Contains(t, r.Stderr, "did you mean openai?")
		w.login[command] = "test_reader"
		r = w.run(nil, command, "--env-file", file)
		require.Equal(t, 4, r.Code)
		require.Contains(t, r.Stderr, "make it a member of provwatch_operator")
	}
	for _, flag := range []string{"--on-boot-drift=apply", "--on-reload-drift=apply"} {
		r := w.run(nil, "run", "--observe", "--env-file", file, flag)
		require.Equal(t, 3, r.Code)
		require.Contains(t, r.Stderr, "--observe")
		r = w.run(nil, "run", "--env-file", file, flag) // as the role of a worker that applies nothing
		require.Equal(t, 4, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, "make it a member of provwatch_notify and provwatch_applier")
	}
	require.Equal(t, before, w.dump())
}
