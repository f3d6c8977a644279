//go:build e2e

package test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

func TestAlerts(t *testing.T) {
	t.Parallel()
	t.Run("OfEachChangeInOrder", testAlertsOfEachChangeInOrder)
	t.Run("OfAReplacedRow", testAlertsOfAReplacedRow)
	t.Run("AfterAResync", testAlertsAfterAResync)
	t.Run("OnceAcrossRestarts", testAlertsOnceAcrossRestarts)
	t.Run("StartFromTheSeedsDrifts", testAlertsStartFromTheSeedsDrifts)
	t.Run("HoldNoSecretPartOfAURL", testAlertsHoldNoSecretPartOfAURL)
	t.Run("TooLongPointToTheirRow", testAlertsTooLongPointToTheirRow)
	t.Run("LongValues", testAlertsLongValues)
}

// testAlertsOfEachChangeInOrder scripts every change of a provider
// that docs/specification.md, section 6, names.
func testAlertsOfEachChangeInOrder(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		w.start(w.twoProviders(), "run").ready()
		id := w.strings(`SELECT id::text FROM ai_providers WHERE name = 'openai'`)[0]
		var want []string
		step := func(script string, alerts ...string) {
			t.Helper()
			w.exec(script)
			want = append(want, alerts...)
			w.expectAlerts(want...)
		}

		step(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`, "changed openai")
		step(`UPDATE ai_providers SET base_url = 'https://other.example/v1' WHERE name = 'openai'`, "changed openai")
		step(`UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/' WHERE name = 'openai'`, "resolved openai")
		step(`UPDATE ai_providers SET type = 'anthropic' WHERE name = 'openai'`, "changed openai")
		step(`UPDATE ai_providers SET type = 'openai' WHERE name = 'openai'`, "resolved openai")
		step(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, "disabled openai")
		step(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`, "resolved openai")
		step(`UPDATE ai_providers SET deleted = true WHERE name = 'openai'`, "deleted openai")
		step(`UPDATE ai_providers SET deleted = false WHERE name = 'openai'`, "resolved openai")
		step(`UPDATE ai_providers SET name = 'openai-old' WHERE name = 'openai'`, "missing openai")
		require.Equal(t, []string{"openai-old"}, w.strings(`SELECT renamed_to FROM provwatch.drift_alerts ORDER BY seq DESC LIMIT 1`))
		step(`UPDATE ai_providers SET name = 'openai' WHERE name = 'openai-old'`, "resolved openai")
		step(`DELETE FROM ai_providers WHERE name = 'openai'`, "missing openai")
		step(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'openai', 'https://api.openai.com/v1/')`, "resolved openai")
		// Several providers in one statement; a row that is replaced by another.
		step(`UPDATE ai_providers SET enabled = false WHERE name IN ('anthropic', 'openai')`, "disabled anthropic", "disabled openai")
		step(`UPDATE ai_providers SET enabled = true WHERE name IN ('anthropic', 'openai')`, "resolved anthropic", "resolved openai")
		step(`TRUNCATE ai_providers CASCADE`, "missing anthropic", "missing openai")
		step(fmt.Sprintf(`INSERT INTO ai_providers (id, type, name, base_url) VALUES ('%s', 'openai', 'openai', 'https://api.openai.com/v1/')`, id), "resolved openai")
		// What is not canonical is no drift: the next drift has the next seq.
		w.exec(`UPDATE ai_providers SET display_name = 'OpenAI', updated_at = now()`)
		w.exec(`INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'rotated' FROM ai_providers`)
		w.exec(`INSERT INTO ai_providers (id, type, name, base_url, enabled) VALUES (gen_random_uuid(), 'openai', 'not-in-the-environment', 'https://h/', false)`)
		step(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, "disabled openai")
	})
}

func testAlertsOfAReplacedRow(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		w.start(w.twoProviders(), "run").ready()
		w.exec(`WITH gone AS (DELETE FROM ai_providers WHERE name = 'openai' RETURNING *)
			SELECT 1 FROM gone`)
		w.expectAlerts("missing openai")
		w.exec(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'openai', 'https://api.openai.com/v1/')`)
		w.expectAlerts("missing openai", "resolved openai")
		w.exec(`DELETE FROM ai_providers WHERE name = 'openai'`)
		w.expectAlerts("missing openai", "resolved openai", "missing openai")
	})
}

func TestNotifications(t *testing.T) {
	t.Parallel()
	t.Run("GarbageIsHarmless", testNotificationsGarbageIsHarmless)
	t.Run("OfAnotherProgramPromptVerification", testNotificationsOfAnotherProgramPromptVerification)
	t.Run("ReadyOnceListening", testNotificationsReadyOnceListening)
	t.Run("BurstIsCoalesced", testNotificationsBurstIsCoalesced)
}

func testNotificationsGarbageIsHarmless(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		p := w.start(w.twoProviders(), "run").ready()
		for _, payload := range []string{
			"", "garbage", "{}", `{"id":1}`, "'; DROP TABLE ai_providers; --", "\x01\x02\u2028%s%n", strings.Repeat("x", 7999),
			strings.Repeat("🔑", 1900), "00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}",
			"urn:uuid:00000000-0000-0000-0000-000000000000",
		} {
			w.exec(`SELECT pg_notify('ai_providers_changed', $1)`, payload)
		}
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		require.Zero(t, p.logged("level=ERROR"))
		require.Zero(t, p.logged("verification failed"))
		p.stop()
	})
}

func testNotificationsOfAnotherProgramPromptVerification(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.start(w.twoProviders(), "run").ready()
	// Another program without our triggers, which notifies on its own.
	w.disableUnnoticed("anthropic")
	// The verification that a trigger's hint prompts looks at that provider alone.
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	w.exec(`NOTIFY ai_providers_changed`)
	w.expectAlerts("disabled openai", "disabled anthropic")
}

func testAlertsAfterAResync(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.start(w.twoProviders(), "run", "--resync=300ms").ready()
	// A worker that has become the leader verifies everything once more. An alert is
	// the leader's, and so its first verification is over, or this is it.
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	w.disableUnnoticed("anthropic")
	w.expectAlerts("disabled openai", "disabled anthropic")
	require.Equal(t, []string{"resync"}, w.strings(`SELECT source FROM provwatch.drift_alerts WHERE seq = 2`))
}

func testNotificationsReadyOnceListening(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		// Resyncs come before the listening connection does.
		p := w.start(w.twoProviders(), "run", "--resync=1ms").ready()
		said := strings.Join(p.lines(), "\n")
		require.Less(t, strings.Index(said, "msg=listening"), strings.Index(said, "msg=ready"), said)
		require.Contains(t, said, "msg=listening")
		p.stop()
	})
}

// testNotificationsBurstIsCoalesced counts on the
// server, in pg_stat_statements' stead, by what the worker itself measures and
// by the reads of the provider table.
func testNotificationsBurstIsCoalesced(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
		before := p.metric("provwatch_verification_duration_seconds_count")

		const notifications = 100_000
		start := time.Now()
		// Distinct payloads in 100 transactions: PostgreSQL drops repetitions inside
		// one transaction, so that these are really 100,000 notifications.
		for i := range 100 {
			w.exec(`SELECT pg_notify('ai_providers_changed', format('%s-%s', $1::int, n)) FROM generate_series(1, $2) n`, i, notifications/100)
		}
		eventually(t, func() bool { return p.metric("provwatch_notifications_received_total") >= notifications }, "all notifications are received")
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		// The last verification is counted after its alert is there.
		var verifications float64
		eventually(t, func() bool {
			verifications = p.metric("provwatch_verification_duration_seconds_count") - before
			return verifications >= 2
		}, "the first notification's verification and the last one's are counted")
		took := time.Since(start)
		// One at once for each of the limiter's burst, and 20 a second.
		bound := 20 + 20*took.Seconds() + 5
		require.LessOrEqual(t, verifications, bound, "verifications of %d notifications in %s", notifications, took)
		require.GreaterOrEqual(t, p.metric("provwatch_notifications_coalesced_total"), notifications-bound)
		p.stop()
	})
}

func testAlertsOnceAcrossRestarts(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	env := w.twoProviders()
	p := w.start(env, "run").ready()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")

	for _, end := range []func(){p.kill9, func() { w.start(env, "run").ready().stop() }} {
		end()
	}
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
	p = w.start(env, "run").ready()
	w.expectAlerts("disabled openai", "disabled anthropic")
	require.Equal(t, []string{"wal", "wal"}, w.strings(`SELECT source FROM provwatch.drift_alerts ORDER BY seq`))
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name IN ('anthropic', 'openai')`)
	w.expectAlerts("disabled openai", "disabled anthropic", "resolved anthropic", "resolved openai")
	p.stop()
}

func testAlertsStartFromTheSeedsDrifts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 0, w.run(nil, "migrate").Code)
	w.exec(`INSERT INTO ai_providers (id, type, name, base_url, deleted) VALUES (gen_random_uuid(), 'openai', 'openai', 'https://api.openai.com/v1/', true)`)
	p := w.start(w.twoProviders(), "run").ready()
	p.waitFor("level=WARN", "soft-deleted", "provider=openai")
	require.Empty(t, w.alerts())
	w.exec(`UPDATE ai_providers SET deleted = false WHERE name = 'openai'`)
	w.expectAlerts("resolved openai")
}

func TestReload(t *testing.T) {
	t.Parallel()
	t.Run("ReadsTheFileAndVerifies", testReloadReadsTheFileAndVerifies)
	t.Run("UnusableFileChangesNothing", testReloadUnusableFileChangesNothing)
	t.Run("FileAndProcessVariables", testReloadFileAndProcessVariables)
}

func testReloadReadsTheFileAndVerifies(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		file := w.file("providers.env", "CODER_AIBRIDGE_OPENAI_KEY="+w.secret(openAIKey)+"\n")
		// Known from the first verification on, and named by the environment only later.
		w.insertProvider("anthropic", "anthropic", "https://api.anthropic.com/")
		p := w.start(nil, "run", "--env-file", file, "--http-addr=127.0.0.1:0").ready()

		w.rewrite(file, "CODER_AIBRIDGE_OPENAI_KEY="+openAIKey+"\nCODER_AIBRIDGE_OPENAI_BASE_URL=https://proxy.example/v1\n")
		p.signal(syscall.SIGHUP)
		w.expectAlerts("changed openai")
		require.Equal(t, []string{"reload"}, w.strings(`SELECT source FROM provwatch.drift_alerts`))

		// A file that cannot be used is reported and changes nothing.
		w.rewrite(file, "CODER_AIBRIDGE_PROVIDER_7_KEY="+w.secret("sk-in-a-broken-file-0123456789")+"\n")
		p.signal(syscall.SIGHUP)
		p.waitFor("level=ERROR", "CODER_AIBRIDGE_PROVIDER_7")
		eventually(t, func() bool { return p.metric("provwatch_last_reload_successful") == 0 }, "the reload is refused")
		status, page := p.get("/")
		require.Equal(t, http.StatusOK, status)
		require.Regexp(t, `the last reload was refused</span>: [^<]*CODER_AIBRIDGE_PROVIDER_7`, page)
		status, _ = p.get("/readyz")
		require.Equal(t, http.StatusOK, status, "the environment before is watched")

		w.rewrite(file, "CODER_AIBRIDGE_OPENAI_KEY="+openAIKey+"\n")
		began := time.Now()
		p.signal(syscall.SIGHUP)
		w.expectAlerts("changed openai", "resolved openai")
		require.Equal(t, 1.0, p.metric("provwatch_last_reload_successful"))
		reloaded := p.metric("provwatch_last_reload_success_timestamp_seconds")
		require.LessOrEqual(t, float64(began.Unix()), reloaded)
		require.LessOrEqual(t, reloaded, float64(time.Now().Unix()+1))
		require.Equal(t, 1.0, p.metric("provwatch_providers"))

		// A provider that the environment no longer names has nothing to differ from.
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("changed openai", "resolved openai", "disabled openai")
		w.rewrite(file, "CODER_AIBRIDGE_ANTHROPIC_KEY="+w.secret(anthropicKey)+"\n")
		p.signal(syscall.SIGHUP)
		w.expectAlerts("changed openai", "resolved openai", "disabled openai", "resolved openai")
		require.Equal(t, 1.0, p.metric("provwatch_providers"))
		eventually(t, func() bool {
			return strings.Contains(strings.Join(w.payloads(pubsub.Statuses), "\n"), `"event":"reloaded"`)
		}, "status reloaded is published")
		eventually(t, func() bool { return p.metric("provwatch_drift_providers") == 0 }, "no provider drifts any more")
		p.stop()
	})
}

func testReloadUnusableFileChangesNothing(t *testing.T) {
	t.Parallel()
	// A file that is emptied, or that names nothing that is a provider, is refused as
	// any other that cannot be used: nothing is resolved, and drifts are alerted.
	for name, content := range map[string]string{
		"EmptyFile":             "",
		"FileOfNoProvider":      "CODER_AIBRIDE_OPENAI_KEY=sk-misspelt\nPATH=/bin\n",
		"FileOfEmptyVariables":  "CODER_AIBRIDGE_OPENAI_KEY=\n",
		"FileOfOtherConfigured": "CODER_AIBRIDGE_OPENAI_DUMP_DIR=/tmp\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, "notify")
			file := w.file("providers.env", "CODER_AIBRIDGE_OPENAI_KEY="+w.secret(openAIKey)+"\n")
			p := w.start(nil, "run", "--env-file", file, "--http-addr=127.0.0.1:0").ready()
			w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			w.expectAlerts("disabled openai")

			w.rewrite(file, content)
			p.signal(syscall.SIGHUP)
			p.waitFor("level=ERROR", "the environment cannot be used, keeping the one in use", `error="it names no provider"`, "remedy=", "restart the worker")
			eventually(t, func() bool { return p.metric("provwatch_last_reload_successful") == 0 }, "the reload is refused")
			require.Equal(t, 1.0, p.metric("provwatch_providers"))
			_, page := p.get("/")
			require.Regexp(t, `the last reload was refused</span>: [^<]*it names no provider`, page)
			status, _ := p.get("/readyz")
			require.Equal(t, http.StatusOK, status, "the environment before is watched")
			w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`)
			w.expectAlerts("disabled openai", "disabled openai")

			w.rewrite(file, "CODER_AIBRIDGE_OPENAI_KEY="+openAIKey+"\n")
			p.signal(syscall.SIGHUP)
			p.waitFor("environment reloaded")
			require.Equal(t, 1.0, p.metric("provwatch_last_reload_successful"))
			p.stop()
		})
	}
}

// testReloadFileAndProcessVariables empties the file of a worker whose own environment names
// another provider.
func testReloadFileAndProcessVariables(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	file := w.file("providers.env", "CODER_AIBRIDGE_OPENAI_KEY="+w.secret(openAIKey)+"\n")
	p := w.start(environ{"CODER_AIBRIDGE_ANTHROPIC_KEY": w.secret("made-up-key-of-south-0123")}, "run", "--env-file", file, "--http-addr=127.0.0.1:0").ready()
	require.Equal(t, 2.0, p.metric("provwatch_providers"))
	w.rewrite(file, "# being written\n")
	p.signal(syscall.SIGHUP)
	p.waitFor("level=ERROR", "the environment cannot be used, keeping the one in use", "its file sets no provider variable any more")
	require.Equal(t, 2.0, p.metric("provwatch_providers"))
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.stop()
}

func testAlertsHoldNoSecretPartOfAURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(w.twoProviders(), "run").ready()
	w.secret("hunter2-in-a-url")
	w.exec(`UPDATE ai_providers SET base_url = 'https://user:hunter2-in-a-url@proxy.example/v1?token=hunter2-in-a-url#hunter2-in-a-url' WHERE name = 'openai'`)
	w.expectAlerts("changed openai")
	require.Contains(t, w.payloads(pubsub.DriftAlerts)[0], `"db":"https://proxy.example/v1"`)
}

func testAlertsTooLongPointToTheirRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(w.twoProviders(), "run").ready()
	// In JSON, which the payload is, each character takes six.
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/' || repeat('&', 4000) WHERE name = 'openai'`)
	w.expectAlerts("changed openai")
	payload := w.payloads(pubsub.DriftAlerts)[0]
	require.Less(t, len(payload), 7900)
	require.Contains(t, payload, `"truncated":true`)
	require.Contains(t, payload, `"row":"provwatch.drift_alerts seq=1"`)
	require.Equal(t, 1, w.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE seq = 1 AND length(fields::text) > 1900`))
}

// testAlertsLongValues gives a row a base URL of 9 MB, and a Bedrock one a region of as much.
func testAlertsLongValues(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		p := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
		const long = 9 << 20
		w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/' || repeat('p', $1) WHERE name = 'openai'`, long)
		w.expectAlerts("changed openai") // verified together, they are in the order of their names
		w.exec(`UPDATE ai_providers SET settings = '{"_type": "bedrock", "_version": 1, "region": "' || repeat('r', $1) || '"}' WHERE name = 'anthropic'`, long)
		w.expectAlerts("changed openai", "changed anthropic")
		shown := func(text, where string) {
			t.Helper()
			require.Less(t, len(text), 200_000, where)
			require.Contains(t, text, "bytes in all", where)
		}
		for _, format := range []string{"text", "json"} {
			for _, args := range [][]string{{"verify"}, {"status"}, {"seed", "--dry-run"}} {
				r := w.run(env, append(args, "-o", format)...)
				require.NotContains(t, []int{1, 3, 4}, r.Code, "%s: %s", strings.Join(args, " "), r.Stderr)
				shown(r.Stdout, strings.Join(args, " ")+" "+format)
			}
			watch := w.start(nil, "watch", "--since=0", "-o", format)
			eventually(t, func() bool { return strings.Count(strings.Join(watch.output(), "\n"), "bytes in all") >= 2 }, "both alerts are printed")
			shown(strings.Join(watch.output(), "\n"), "watch "+format)
			watch.stop()
		}
		r := w.run(env, "seed")
		require.Equal(t, 2, r.Code)
		shown(r.Stderr, "the error of a start")
		_, page := p.get("/")
		require.Less(t, len(page), 200_000, "page") // which cuts values shorter
		p.waitFor("msg=drift", "provider=anthropic")
		shown(strings.Join(p.lines(), "\n"), "log")
		require.Equal(t, 2, w.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE length(fields::text) < 10000`))
		for _, payload := range w.payloads(pubsub.DriftAlerts) {
			require.NotContains(t, payload, `"truncated"`)
			shown(payload, "payload")
		}
		r = w.run(env, "resolve", "openai", "--take", "db", "-o", "json")
		require.Equal(t, 0, r.Code, r.Stderr)
		shown(r.Stdout, "resolve")
		eventually(t, func() bool {
			return w.count(`SELECT count(*) FROM provwatch.audit_log WHERE action = 'drift.accept' AND length(details::text) < 10000`) == 1
		}, "it is audited")
		for _, table := range w.tables() {
			if strings.HasPrefix(table, "provwatch.") {
				require.Zero(t, w.count(`SELECT count(*) FROM `+table+` r WHERE length(r::text) > 20000`), "%s holds no more of them than is shown", table)
			}
		}
		require.Equal(t, 2, w.count(`SELECT count(*) FROM ai_providers WHERE length(base_url) > $1 OR length(settings) > $1`, long), "the rows hold the whole")
		p.stop()
	})
}
