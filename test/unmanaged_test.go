//go:build e2e

package test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// TestUnmanagedProviders has rows that the environment does not name beside running workers.
func TestUnmanagedProviders(t *testing.T) {
	t.Parallel()
	t.Run("Life", testUnmanagedProvidersLife)
	t.Run("Observed", testUnmanagedProvidersObserved)
	t.Run("Modes", testUnmanagedProvidersModes)
	t.Run("Renamed", testUnmanagedProvidersRenamed)
	t.Run("NeverWatched", testUnmanagedProvidersNeverWatched)
}

// crowd inserts rows that the environment does not name, before any worker has looked. One is
// disabled, and so not unmanaged.
func (w *world) crowd() {
	w.t.Helper()
	w.migrate()
	w.exec(`INSERT INTO ai_providers (id, type, name, base_url, enabled)
		SELECT gen_random_uuid(), 'openai', 'crowd-' || n, 'https://h/', n < 301 FROM generate_series(1, 301) AS n`)
}

// testUnmanagedProvidersLife follows one row from its insertion to its acceptance, over a reload and a
// restart, beside many that were there before.
func testUnmanagedProvidersLife(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		w.crowd()
		openai := "CODER_AIBRIDGE_OPENAI_KEY=" + w.secret(openAIKey) + "\n"
		rogue := "CODER_AIBRIDGE_PROVIDER_0_TYPE=openai\nCODER_AIBRIDGE_PROVIDER_0_NAME=rogue\nCODER_AIBRIDGE_PROVIDER_0_BASE_URL=https://rogue.example/\n" +
			"CODER_AIBRIDGE_PROVIDER_0_KEY=" + w.secret("sk-rogue-0123456789-abcdef") + "\n"
		file := w.file("providers.env", openai)
		run := func() *worker {
			return w.start(nil, "run", "--env-file", file, "--http-addr=127.0.0.1:0", "--resync=1h").ready()
		}
		verify := func(code int, want string) {
			t.Helper()
			r := w.run(nil, "verify", "--env-file", file)
			require.Equal(t, code, r.Code, r.Stderr)
			require.Contains(t, r.Stdout, want)
		}
		var alerts []string
		expect := func(alert string) {
			t.Helper()
			alerts = append(alerts, alert+" rogue")
			w.expectAlerts(alerts...)
		}
		p := run()
		old := w.unmanaged("openai")
		require.GreaterOrEqual(t, old, 300)
		unmanaged := func(named, rows int) string {
			return fmt.Sprintf("0 of %d providers drift, %d unmanaged.\n", named+rows, rows)
		}
		verify(0, unmanaged(1, old))
		eventually(t, func() bool { return p.metric("provwatch_unmanaged_providers") == float64(old) }, "they are counted")
		require.Empty(t, w.alerts())

		w.insertProvider("openai", "rogue", "https://user:"+w.secret("Winter2026!")+"@rogue.example/")
		expect("unmanaged")
		require.Equal(t, []string{w.source}, w.strings(`SELECT source FROM provwatch.drift_alerts`))
		p.waitFor("msg=drift", "kind=unmanaged", `fields="type (environment -, database \"openai\"), base_url (environment -, `)
		eventually(t, func() bool {
			return p.series()[`provwatch_provider_drift{kind="unmanaged",provider="rogue"}`] == 1 && p.metric("provwatch_unmanaged_providers") == float64(old+1)
		}, "it is measured")
		r := w.run(nil, "verify", "--env-file", file)
		require.Equal(t, 2, r.Code)
		require.Regexp(t, `(?m)^rogue +unmanaged, alerted +moved: database +type +- +openai\n +base_url +- +https://rogue.example/$`, r.Stdout)
		require.Contains(t, r.Stdout, fmt.Sprintf("1 of %d providers drifts, %d unmanaged (1 alerted).\n", old+2, old+1))
		_, page := p.get("/?state=drifted")
		require.Contains(t, page, "unmanaged, alerted")
		require.Contains(t, page, "the environment does not name it")
		status := w.run(nil, "status", "--env-file", file)
		require.Contains(t, status.Stdout, fmt.Sprintf("%d providers: 1 drifted, %d unmanaged, 1 in sync.\n", old+2, old), "as verify and the metric count")
		require.Regexp(t, `(?m)^rogue +unmanaged, alerted +moved: database +type +- +openai$`, status.Stdout)

		p.kill9()
		p = run()
		require.Equal(t, 0, w.run(nil, "resolve", "rogue", "--take=db", "--reason=ticket 12", "--env-file", file).Code)
		expect("resolved")
		verify(0, "unmanaged, accepted")
		_, page = p.get("/?state=accepted")
		require.Contains(t, page, "unmanaged, accepted")
		require.Contains(t, page, "ticket 12")
		w.exec(`UPDATE ai_providers SET base_url = 'https://rogue.example/' WHERE name = 'rogue'`)
		expect("unmanaged")

		// The environment names it, and ceases to: it is known then.
		w.rewrite(file, openai+rogue)
		p.signal(syscall.SIGHUP)
		expect("resolved")
		verify(0, unmanaged(2, old))
		w.rewrite(file, openai)
		p.signal(syscall.SIGHUP)
		eventually(t, func() bool { return p.metric("provwatch_unmanaged_providers") == float64(old+1) }, "it is known")
		verify(0, unmanaged(1, old+1))

		// While no worker runs it is disabled, and enabled again beside one.
		p.stop()
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'rogue'`)
		p = run()
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'rogue'`)
		expect("unmanaged")
		w.exec(`DELETE FROM ai_providers WHERE name = 'rogue'`)
		expect("resolved")
		require.Equal(t, []string{
			"database", "accepted ends 1", "database", "environment_changed ends 3", "database", "reverted ends 5",
		}, w.strings(`SELECT concat_ws(' ', nullif(moved, ''), nullif(how, ''), 'ends ' || resolves) FROM provwatch.drift_alerts ORDER BY seq`))
		require.Zero(t, w.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE env_hash <> ''`))
		p.stop()
	})
}

// testUnmanagedProvidersObserved has a worker that observes, with the grants of its role.
func testUnmanagedProvidersObserved(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.observing()
		w.change(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'old', 'https://h/')`)
		p := w.start(env, "run", "--observe", "--resync=1h").ready()
		w.expectAlerts("missing anthropic", "missing openai")
		w.change(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'rogue', 'https://h/')`)
		w.expectAlerts("missing anthropic", "missing openai", "unmanaged rogue")
		w.change(`UPDATE ai_providers SET enabled = false WHERE name IN ('old', 'rogue')`)
		want := []string{"missing anthropic", "missing openai", "unmanaged rogue", "resolved rogue"}
		w.expectAlerts(want...)
		eventually(t, func() bool {
			return w.count(`SELECT count(*) FROM provwatch.unmanaged_rows WHERE provider IN ('old', 'rogue')`) == 0
		}, "nothing is recorded of the rows")
		w.change(`UPDATE ai_providers SET enabled = true WHERE name = 'old'`)
		want = append(want, "unmanaged old")
		w.expectAlerts(want...)
		require.Equal(t, 2, w.run(env, "verify").Code)
		require.Equal(t, 0, w.run(env, "resolve", "old", "--take=db").Code)
		w.expectAlerts(append(want, "resolved old")...)
		p.stop()
	})
}

// testUnmanagedProvidersModes warns of a row, ignores it, and alerts it.
func testUnmanagedProvidersModes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	p := w.start(env, "run", "--unmanaged=warn", "--resync=1h").ready()
	w.insertProvider("openai", "rogue", "https://rogue.example/")
	p.waitFor("level=WARN", "unmanaged provider", "provider=rogue")
	p.stop()
	r := w.run(env, "verify", "--unmanaged=warn")
	require.Equal(t, 0, r.Code)
	require.Regexp(t, `(?m)^rogue +unmanaged `, r.Stdout)
	r = w.run(env, "verify", "--unmanaged=ignore")
	require.Equal(t, 0, r.Code)
	require.NotContains(t, r.Stdout, "rogue")
	p = w.start(env.With("PROVWATCH_UNMANAGED", "alert"), "run", "--resync=1h").ready()
	w.expectAlerts("unmanaged rogue")
	require.Equal(t, 2, w.run(env, "verify").Code)
	require.Equal(t, 0, w.run(env, "verify", "--unmanaged=warn").Code)
	p.stop()
	p = w.start(env, "run", "--unmanaged=ignore", "--resync=1h").ready()
	w.expectAlerts("unmanaged rogue", "resolved rogue")
	require.Equal(t, 0, w.run(env, "verify").Code)
	p.stop()
}

// testUnmanagedProvidersRenamed renames the rows of providers away.
func testUnmanagedProvidersRenamed(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		p := w.start(env, "run", "--http-addr=127.0.0.1:0", "--resync=1h").ready()
		old := w.unmanaged("openai", "anthropic")
		w.exec(`UPDATE ai_providers SET name = 'openai-old' WHERE name = 'openai'`)
		w.expectAlerts("missing openai")
		require.Equal(t, []string{"openai-old"}, w.strings(`SELECT renamed_to FROM provwatch.drift_alerts`))
		require.Contains(t, w.published(pubsub.DriftAlerts)[0], `"renamed_to":"openai-old"`)
		p.waitFor("drift", "kind=missing", "provider=openai", "renamed_to=openai-old")
		eventually(t, func() bool { return p.metric("provwatch_unmanaged_providers") == float64(old+1) }, "the row is known")
		r := w.run(env, "verify")
		require.Equal(t, 2, r.Code)
		require.Contains(t, r.Stdout, fmt.Sprintf("1 of %d providers drifts, %d unmanaged.\n", old+3, old+1))
		require.Regexp(t, `(?m)^openai +missing +moved: database, renamed to openai-old +no row$`, w.run(env, "status").Stdout)
		_, page := p.get("/")
		require.Contains(t, page, "no row, renamed to openai-old")
		p.stop()
		// The next start seeds the provider, and its former row stays known.
		p = w.start(env, "run", "--resync=1h").ready()
		w.expectAlerts("missing openai", "resolved openai")
		w.exec(`UPDATE ai_providers SET base_url = 'https://other.example/' WHERE name = 'openai-old'`)
		w.exec(`DELETE FROM ai_providers WHERE name = 'anthropic'`)
		w.expectAlerts("missing openai", "resolved openai", "missing anthropic")
		p.stop()
	})
}

// testUnmanagedProvidersNeverWatched verifies a database that no worker has watched: no row
// counts as a drift.
func testUnmanagedProvidersNeverWatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	require.Equal(t, 0, w.run(env, "seed").Code)
	w.insertProvider("openai", "rogue", "https://rogue.example/")
	r := w.run(env, "verify")
	require.Equal(t, 0, r.Code)
	rows := w.unmanaged("openai", "anthropic")
	require.Contains(t, r.Stdout, fmt.Sprintf("0 of %d providers drift, %d unmanaged.\n", rows+2, rows))
	// The environment names a row of a type that provwatch does not know.
	named := env.With("CODER_AIBRIDGE_PROVIDER_0_TYPE", "mistral").With("CODER_AIBRIDGE_PROVIDER_0_NAME", "rogue")
	rows = w.unmanaged("openai", "anthropic", "rogue")
	require.Contains(t, w.run(named, "verify").Stdout, fmt.Sprintf("0 of %d providers drift, %d unmanaged.\n", rows+2, rows))
	r = w.run(env, "verify", "-o", "json")
	require.Equal(t, 0, r.Code)
	require.Contains(t, r.Stdout, `"provider": "rogue"`)
	require.Contains(t, r.Stdout, `"alerted": false`)
}

// unmanaged returns how many enabled, live rows have none of the names given.
func (w *world) unmanaged(names ...string) int {
	w.t.Helper()
	return w.count(`SELECT count(*) FROM ai_providers WHERE enabled AND NOT deleted AND name <> ALL($1::text[])`, names)
}
