//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"provwatch/internal/store"

	"github.com/stretchr/testify/require"
)

func TestHTTP(t *testing.T) {
	t.Parallel()
	t.Run("ReadinessFollowsTheListener", testHTTPReadinessFollowsTheListener)
	t.Run("MetricsCountSeedsAndDrifts", testHTTPMetricsCountSeedsAndDrifts)
	t.Run("FailedVerification", testHTTPFailedVerification)
	t.Run("OutboxIsMeasured", testHTTPOutboxIsMeasured)
	t.Run("ProfilerOnlyWithDebug", testHTTPProfilerOnlyWithDebug)
	t.Run("TakenAddressFailsFirst", testHTTPTakenAddressFailsFirst)
	t.Run("JSONLogs", testHTTPJSONLogs)
}

func testHTTPReadinessFollowsTheListener(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.migrate()
	holder := w.connect()
	_, err := holder.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, store.SeedLock)
	require.NoError(t, err)
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0")
	expect := func(path string, status int, body string) {
		t.Helper()
		var gotStatus int
		var gotBody string
		eventually(t, func() bool {
			gotStatus, gotBody = p.get(path)
			return gotStatus == status && strings.HasPrefix(gotBody, body)
		}, "%s answers %d %q, and not %s", path, status, body, lazily(func() []string { return []string{fmt.Sprint(gotStatus), gotBody} }))
	}

	// The seed waits for its lock.
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 1
	}, "the seed waits")
	// Who holds the lock is a reason after a while.
	expect("/readyz", http.StatusServiceUnavailable, "not ready: booting")
	expect("/healthz", http.StatusOK, "ok\n")
	require.Zero(t, p.series()["provwatch_listener_connected"])
	require.NoError(t, holder.Close(t.Context()))
	p.ready()
	expect("/readyz", http.StatusOK, "ok\n")
	require.Equal(t, 1.0, p.series()["provwatch_listener_connected"])

	// The connection is lost, and no other is let in.
	t.Cleanup(func() {
		if t.Failed() {
			w.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS true`)
		}
	})
	w.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS false`)
	w.endSessions()
	expect("/readyz", http.StatusServiceUnavailable, "not ready: not listening: ")
	expect("/healthz", http.StatusOK, "ok\n")
	require.Zero(t, p.series()["provwatch_listener_connected"])
	require.Zero(t, p.series()["provwatch_listener_reconnects_total"])
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS true`)
	expect("/readyz", http.StatusOK, "ok\n")
	w.expectAlerts("disabled openai")
	// An alert is counted once its transaction has committed.
	eventually(t, func() bool { return p.series()[`provwatch_drift_alerts_total{kind="disabled",source="resync"}`] == 1 }, "the alert is counted")
	series := p.series()
	require.Equal(t, 1.0, series["provwatch_listener_connected"])
	require.GreaterOrEqual(t, series["provwatch_listener_reconnects_total"], 1.0)
	p.stop()
}

func testHTTPMetricsCountSeedsAndDrifts(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.migrate()
	w.insertProvider("openai", "openai", "https://api.openai.com/v1/")
	began := time.Now()
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	eventually(t, func() bool {
		series := p.series()
		return series["provwatch_audit_delivered_entries_total"] == 2 && series["provwatch_audit_outbox_entries"] == 0
	}, "the seed's entries are delivered")
	before := p.series()
	for name, want := range map[string]float64{
		`provwatch_seed_providers_total{action="insert"}`:               1,
		`provwatch_seed_providers_total{action="unchanged"}`:            1,
		`provwatch_seed_providers_total{action="accepted"}`:             0,
		`provwatch_seed_providers_total{action="drift"}`:                0,
		`provwatch_seed_providers_total{action="not_comparable"}`:       0,
		`provwatch_seed_providers_total{action="deleted"}`:              0,
		`provwatch_seed_providers_total{action="unsupported"}`:          0,
		`provwatch_drift_providers{kind="missing"}`:                     0,
		`provwatch_drift_providers{kind="deleted"}`:                     0,
		`provwatch_drift_providers{kind="disabled"}`:                    0,
		`provwatch_drift_providers{kind="changed"}`:                     0,
		`provwatch_drift_providers{kind="unmanaged"}`:                   0,
		`provwatch_pending_providers`:                                   0,
		`provwatch_unmanaged_providers`:                                 float64(w.unmanaged("openai", "anthropic")),
		`provwatch_drift_alerts_total{kind="disabled",source="notify"}`: 0,
		`provwatch_drift_alerts_total{kind="resolved",source="boot"}`:   0,
		`provwatch_verification_duration_seconds{scope="full"}`:         1,
		`provwatch_verification_duration_seconds{scope="hinted"}`:       0,
		`provwatch_verification_errors_total{scope="full"}`:             0,
		`provwatch_verification_errors_total{scope="hinted"}`:           0,
		`provwatch_notifications_received_total`:                        0,
		`provwatch_notifications_coalesced_total`:                       0,
		`provwatch_listener_reconnects_total`:                           0,
		`provwatch_listener_connected`:                                  1,
		`provwatch_audit_outbox_entries`:                                0,
		`provwatch_audit_outbox_oldest_age_seconds`:                     0,
		`provwatch_build_info{version="test"}`:                          1,
	} {
		require.Contains(t, before, name)
		require.Equal(t, want, before[name], name)
	}
	require.Contains(t, before, "go_goroutines")
	require.Contains(t, before, "process_resident_memory_bytes")
	lastVerified := before[`provwatch_last_verification_timestamp_seconds{scope="full"}`]
	require.LessOrEqual(t, float64(began.Unix()), lastVerified)
	require.LessOrEqual(t, lastVerified, float64(time.Now().Unix()+1))

	// Each step moves what it should, by one, and nothing else that counts.
	step := func(script, alert string, moves map[string]float64) {
		t.Helper()
		before := p.series()
		w.exec(script)
		w.expectAlerts(append(w.alertsBefore(alert), alert)...)
		maps.Copy(moves, map[string]float64{
			`provwatch_notifications_received_total`:                  1,
			`provwatch_verification_duration_seconds{scope="hinted"}`: 1,
		})
		eventually(t, func() bool {
			after := p.series()
			for name, by := range moves {
				if after[name] != before[name]+by {
					return false
				}
			}
			return true
		}, "the metrics move by %v", moves)
		after := p.series()
		for name, value := range after {
			if _, moved := moves[name]; moved || !strings.HasPrefix(name, "provwatch_") || strings.Contains(name, "timestamp") {
				continue
			}
			if name == "provwatch_notify_queue_usage_ratio" {
				continue // which is that of all databases of the server
			}
			require.Equal(t, before[name], value, name)
		}
	}
	step(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, "disabled openai", map[string]float64{
		`provwatch_drift_alerts_total{kind="disabled",source="notify"}`: 1, `provwatch_drift_providers{kind="disabled"}`: 1,
		`provwatch_provider_drift{kind="disabled",provider="openai"}`: 1,
	})
	step(`UPDATE ai_providers SET enabled = true, base_url = 'https://h/' WHERE name = 'openai'`, "changed openai", map[string]float64{
		`provwatch_drift_alerts_total{kind="changed",source="notify"}`: 1, `provwatch_drift_providers{kind="changed"}`: 1,
		`provwatch_drift_providers{kind="disabled"}`:                 -1,
		`provwatch_provider_drift{kind="changed",provider="openai"}`: 1, `provwatch_provider_drift{kind="disabled",provider="openai"}`: -1,
	})
	step(`UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/' WHERE name = 'openai'`, "resolved openai", map[string]float64{
		`provwatch_drift_alerts_total{kind="resolved",source="notify"}`: 1, `provwatch_drift_providers{kind="changed"}`: -1,
		`provwatch_provider_drift{kind="changed",provider="openai"}`: -1,
	})
	step(`DELETE FROM ai_providers WHERE name = 'openai'`, "missing openai", map[string]float64{
		`provwatch_drift_alerts_total{kind="missing",source="notify"}`: 1, `provwatch_drift_providers{kind="missing"}`: 1,
		`provwatch_provider_drift{kind="missing",provider="openai"}`: 1,
	})

	// A full verification, prompted by something that is no hint.
	full := `provwatch_verification_duration_seconds{scope="full"}`
	w.exec(`NOTIFY ai_providers_changed`)
	eventually(t, func() bool { return p.series()[full] >= before[full]+1 }, "everything is verified")
	require.GreaterOrEqual(t, p.series()[`provwatch_last_verification_timestamp_seconds{scope="full"}`], lastVerified)
	p.stop()
}

func testHTTPFailedVerification(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	w.exec(`ALTER TABLE provwatch.drift_state RENAME TO hidden`)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	eventually(t, func() bool { return p.series()[`provwatch_verification_errors_total{scope="hinted"}`] >= 1 }, "the failure is counted")
	// It is counted before it shows on /readyz.
	eventually(t, func() bool {
		status, body := p.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "not ready: the last verification failed: ")
	}, "the worker is not ready")
	w.exec(`ALTER TABLE provwatch.hidden RENAME TO drift_state`)
	w.expectAlerts("disabled openai")
	eventually(t, func() bool {
		status, _ := p.get("/readyz")
		return status == http.StatusOK
	}, "it is ready again")
	p.stop()
}

func testHTTPOutboxIsMeasured(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.migrate()
	unlock := w.lock("provwatch.audit_log", "EXCLUSIVE")
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	eventually(t, func() bool { return w.waiting("provwatch.audit_log") }, "the delivery waits")
	const depth, age, delivered = "provwatch_audit_outbox_entries", "provwatch_audit_outbox_oldest_age_seconds", "provwatch_audit_delivered_entries_total"
	first := p.series()
	require.Equal(t, 4.0, first[depth])
	require.Positive(t, first[age])
	require.Less(t, first[age], patience.Seconds())
	require.Zero(t, first[delivered])
	require.Greater(t, p.series()[age], first[age], "it grows")
	unlock()
	eventually(t, func() bool {
		s := p.series()
		return s[depth] == 0 && s[age] == 0 && s[delivered] == 4
	}, "the outbox is empty")
	p.stop()
}

// profilerPages are the pages of the profiler that answer at once.
var profilerPages = []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=2", "/debug/pprof/trace?seconds=0.1"}

func testHTTPProfilerOnlyWithDebug(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	for flag, want := range map[string]int{"--debug=false": http.StatusNotFound, "--debug": http.StatusOK} {
		p := w.start(env, "run", "--http-addr=127.0.0.1:0", flag).ready()
		for _, page := range profilerPages {
			status, _ := p.get(page)
			require.Equal(t, want, status, "%s %s", page, flag)
		}
		status, _ := p.get("/debug/")
		require.Equal(t, http.StatusNotFound, status)
		p.stop()
	}
}

func testHTTPTakenAddressFailsFirst(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = busy.Close() })
	address := busy.Addr().String()
	r := w.run(w.twoProviders(), "run", "--http-addr="+address)
	require.Equal(t, result{Code: 1, Stderr: "worker: serve HTTP on --http-addr: listen tcp " + address + ": bind: address already in use\n"}, r)
	r = w.run(w.twoProviders(), "run", "--http-addr=192.0.2.1:9464")
	require.Equal(t, result{Code: 1, Stderr: "worker: serve HTTP on --http-addr: listen tcp 192.0.2.1:9464: bind: cannot assign requested address\n"}, r)
	w.unmigrated()
	// Nor is a private PostgreSQL made.
	private := filepath.Join(t.TempDir(), "data")
	r = w.run(environ{"DATABASE_URL": "", "PROVWATCH_DATA_DIR": private}, "run", "--http-addr="+address)
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, "bind: address already in use")
	require.NoDirExists(t, private)
}

func testHTTPJSONLogs(t *testing.T) {
	t.Parallel()
	w := newOwnerWorld(t)
	env := w.twoProviders()
	file := w.file("providers.env", "CODER_AIBRIDGE_OPENAI_KEY="+openAIKey+"\n")
	p := w.start(env.With("CODER_AIBRIDGE_OPENAI_BASE_URLL", "https://h/"), "run", "--log-format=json", "--http-addr=127.0.0.1:0", "--env-file", file)
	p.waitFor(`"msg":"ready"`)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	require.NotZero(t, w.count(`SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'provwatch%'`))
	p.waitFor(`"msg":"listening"`, `"reconnected":true`)
	p.stop()

	keys := map[string]string{}
	parse := func(line string) map[string]any {
		t.Helper()
		var entry map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		for key, value := range entry {
			require.IsNotType(t, map[string]any{}, value, "%s is an object, such as a value of the wrong type gives: %s", key, line)
		}
		at, err := time.Parse(time.RFC3339Nano, entry["time"].(string))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), at, time.Hour)
		require.Contains(t, []any{"DEBUG", "INFO", "WARN", "ERROR"}, entry["level"])
		return entry
	}
	for _, line := range p.lines() {
		entry := parse(line)
		list := strings.Join(slices.Sorted(maps.Keys(entry)), " ")
		message := entry["msg"].(string)
		if before, seen := keys[message]; seen {
			require.Equal(t, before, list, "the keys of %q differ from line to line", message)
		}
		keys[message] = list
	}
	for message, want := range map[string]string{
		"schema migrated":           "done foreign_provider_tables level msg time",
		"provider seeded":           "keys level msg provider provider_id time type",
		"seed done":                 "accepted applied deleted drifted inserted level msg not_comparable time unchanged unsupported",
		"serving HTTP":              "address level msg time",
		"listening":                 "channel level msg reconnected time",
		"listening connection lost": "error level msg retry_in time",
		"ready":                     "level msg providers time worker",
		"drift":                     "fields kind level moved msg provider seq source time",
		"drift resolved":            "fields how kind level msg provider resolves seq source time",
		"stopping":                  "level msg time",
		"stopped":                   "level msg time",

		"a running gateway might not use the seeded providers yet": "inserted level msg remedy time",
	} {
		require.Equal(t, want, keys[message], message)
	}

	// An error that ends the worker is a line of the log as well.
	w.exec(`UPDATE ai_providers SET base_url = 'https://h/' WHERE name = 'openai'`)
	r := w.run(env, "run", "--log-format=json")
	require.Equal(t, 2, r.Code)
	lines := strings.Split(strings.TrimSuffix(r.Stderr, "\n"), "\n")
	for _, line := range lines {
		parse(line)
	}
	last := parse(lines[len(lines)-1])
	require.Equal(t, "ERROR", last["level"])
	require.Equal(t, 2.0, last["exit_code"])
	require.Contains(t, last["error"], `AI provider "openai" already exists in the database and differs`)
}
