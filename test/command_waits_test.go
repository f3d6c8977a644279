//go:build e2e

package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/schema"
	"provwatch/internal/store"
)

const (
	// heldByHolder is who holds up a command, as its error or its log names it.
	heldByHolder = `has waited since \S+ for session \d+ \(role \\?"provwatch\\?", application \\?"holder\\?", database \\?"\w+\\?"\); SELECT pg_terminate_backend\(\d+\) ends it`
	// goesOn is the message of a command that goes on waiting.
	goesOn = `msg="the command waits for another session"`
)

// noSessionIsLeft waits until the sessions of the commands that have ended are gone.
func (s *stated) noSessionIsLeft() {
	s.t.Helper()
	eventually(s.t, func() bool {
		return s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'provwatch%'`) == 0
	}, "no session of a command is left in the queue of a lock")
}

// saysOnce waits until the command logs who holds it up, and fails if it has logged it
// more than once.
func (p *worker) saysOnce(statement string) {
	p.w.t.Helper()
	p.waitFor("level=WARN", goesOn)
	require.Regexp(p.w.t, regexp.MustCompile(statement+" "+heldByHolder), strings.Join(p.lines(), "\n"))
	require.Equal(p.w.t, 1, p.logged(goesOn))
}

func TestCommandWaits(t *testing.T) {
	t.Parallel()
	t.Run("ReadersGiveUpUnderALock", testCommandWaitsReadersGiveUpUnderALock)
	t.Run("WatchReportsALockOnce", testCommandWaitsWatchReportsALockOnce)
	t.Run("ResolveUnderALock", testCommandWaitsResolveUnderALock)
	t.Run("AdvisoryLockHolderIsReported", testCommandWaitsAdvisoryLockHolderIsReported)
}

// testCommandWaitsReadersGiveUpUnderALock has another session hold a table that a command
// reads.
func testCommandWaitsReadersGiveUpUnderALock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		table string
		args  []string
	}{
		"status":            {"provwatch.alert_counter", []string{"status"}},
		"status of alerts":  {"provwatch.drift_alerts", []string{"status"}},
		"verify":            {"ai_providers", []string{"verify"}},
		"seed --dry-run":    {"ai_providers", []string{"seed", "--dry-run"}},
		"migrate --dry-run": {"provwatch.schema_migrations", []string{"migrate", "--dry-run"}},
		"sinks list":        {"provwatch.sink_cursors", []string{"sinks", "list"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stated{world: newWorld(t)}
			env := s.twoProviders()
			require.Equal(t, 0, s.run(env, "seed").Code)
			end := s.hold(`LOCK TABLE ` + c.table + ` IN ACCESS EXCLUSIVE MODE`)
			r := s.run(env, c.args...)
			require.Equal(t, 1, r.Code, r.Stderr)
			require.Empty(t, r.Stdout)
			require.Regexp(t, regexp.MustCompile(`^worker: the database cannot be read now: (a statement|statements) \(\w+( \w+)?\) `+heldByHolder+`\n$`), r.Stderr)
			s.noSessionIsLeft()
			end()
			r = s.run(env, c.args...)
			require.Equal(t, 0, r.Code, r.Stderr)
		})
	}
}

// testCommandWaitsWatchReportsALockOnce has another session hold the counter of alerts before
// the alerts are read.
func testCommandWaitsWatchReportsALockOnce(t *testing.T) {
	t.Parallel()
	s := &stated{world: newWorld(t)}
	p := s.start(s.twoProviders(), "run").ready()
	s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	s.expectAlerts("disabled openai")
	p.stop()
	end := s.hold(`LOCK TABLE provwatch.alert_counter IN ACCESS EXCLUSIVE MODE`)
	watch := s.start(nil, "watch", "--since", "0")
	watch.waitFor(goesOn)
	end()
	eventually(t, func() bool { return len(watch.output()) > 0 }, "the alert is printed")
	watch.saysOnce(`a statement \(ReadAlertsEnd\)`)
	watch.stop()
}

// testCommandWaitsResolveUnderALock has another session hold the counter
// of alerts, by which the leader is known, while a worker runs.
func testCommandWaitsResolveUnderALock(t *testing.T) {
	t.Parallel()
	const unknown = "Audit entries are staged. It is not known whether a worker runs; a running worker delivers them, or else the next worker.\n"
	s := &stated{world: newWorld(t)}
	env := s.twoProviders()
	p := s.start(env, "run").ready()
	s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	s.expectAlerts("disabled openai")
	end := s.hold(`LOCK TABLE provwatch.alert_counter IN ACCESS EXCLUSIVE MODE`)
	r := s.run(env, "resolve", "openai", "--take", "env")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.True(t, strings.HasSuffix(r.Stdout, unknown), r.Stdout)
	require.Regexp(t, regexp.MustCompile(goesOn+` error="a statement \(ListWorkers\) `+heldByHolder), r.Stderr)
	require.Contains(t, r.Stderr, "could not determine whether a worker delivers the audit entries")
	s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	r = s.run(env, "resolve", "openai", "--take", "db", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, `"audit": "unknown"`)
	end()
	eventually(t, func() bool {
		return s.count(`SELECT count(*) FROM provwatch.audit_log WHERE action IN ('provider.update', 'drift.accept')`) == 2
	}, "the worker delivers what was staged")
	p.stop()
}

// testCommandWaitsAdvisoryLockHolderIsReported has another session hold a lock that
// a command takes.
func testCommandWaitsAdvisoryLockHolderIsReported(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lock      int64
		change    string
		args      []string
		statement string
	}{
		"seed":                    {store.SeedLock, `DELETE FROM ai_providers WHERE name = 'openai'`, []string{"seed"}, `the seed, which takes the lock of seeds and then the gateway's,`},
		"seed behind the gateway": {store.GatewaySeedLock, `DELETE FROM ai_providers WHERE name = 'openai'`, []string{"seed"}, `the seed, which takes the lock of seeds and then the gateway's,`},
		"resolve":                 {store.SeedLock, `UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, []string{"resolve", "openai", "--take", "env"}, `the command, which takes the lock of seeds,`},
		"migrate":                 {schema.Lock, `DROP PUBLICATION provwatch`, []string{"migrate"}, `the migration, which takes the lock of migrations,`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stated{world: newWorld(t)}
			env := s.twoProviders()
			require.Equal(t, 0, s.run(env, "seed").Code)
			s.exec(c.change)
			end := s.hold(fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, c.lock))
			p := s.start(env, c.args...)
			p.waitFor(goesOn)
			end()
			require.Equal(t, 0, p.wait(), p.lines())
			p.saysOnce(c.statement)
		})
	}
}
