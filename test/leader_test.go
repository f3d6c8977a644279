//go:build e2e

package test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
)

func TestLeader(t *testing.T) {
	t.Parallel()
	t.Run("HundredFailovers", testLeaderHundredFailovers)
	t.Run("OneOfSeveral", testLeaderOneOfSeveral)
	t.Run("StopsInOrder", testLeaderStopsInOrder)
	t.Run("FrozenIsReplaced", testLeaderFrozenIsReplaced)
	t.Run("AlertsSeedsOfOthers", testLeaderAlertsSeedsOfOthers)
	t.Run("CutOffIsReplaced", testLeaderCutOffIsReplaced)
	t.Run("ResignsWhenItCannotRecord", testLeaderResignsWhenItCannotRecord)
}

// testLeaderHundredFailovers ends the leader again and again,
// by kill -9 and by SIGTERM in turn, with changes before, while and after it is down. With
// the WAL each of them is alerted, and otherwise the state that lasts, in fewer failovers.
func testLeaderHundredFailovers(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		leader := w.start(env, "run").ready()
		standby := w.start(env, "run", "--on-boot-drift=alert").ready()
		failovers := 100
		if w.source == "notify" {
			failovers = 20
		}
		var want []string
		flip := func() {
			kind, enabled := "disabled", false
			if len(want)%2 == 1 {
				kind, enabled = "resolved", true
			}
			w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, enabled)
			want = append(want, kind+" openai")
		}
		for i := range failovers {
			flip()
			if i%2 == 0 {
				leader.signal(syscall.SIGKILL)
			} else {
				leader.signal(syscall.SIGTERM)
			}
			flip()
			flip()
			leader.wait()
			standby.waitFor("msg=leading")
			leader, standby = standby, w.start(env, "run", "--on-boot-drift=alert")
			if w.source == "notify" {
				eventually(t, func() bool {
					alerts := w.alerts()
					return len(alerts) > 0 && alerts[len(alerts)-1] == want[len(want)-1]
				}, "the latest state is alerted, have %q", lazily(w.alerts))
			}
		}
		standby.ready()
		if w.source == "notify" {
			// States that did not last may be alerted or not: each alert is another than the
			// one before.
			want = want[:len(w.alerts())]
		}
		w.expectAlerts(want...)
		leader.stop()
		standby.waitFor("msg=leading")
		standby.stop()
		require.Equal(t, want, w.alerts())
	})
}

func testLeaderOneOfSeveral(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		first := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
		second := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
		require.Equal(t, 1.0, first.metric("provwatch_leader"))
		require.Zero(t, second.metric("provwatch_leader"))
		leader := w.strings(`SELECT format('leader_session=%s leader_role=%s leader_address=127.0.0.1 leader_since=%s', pid, usename,
			to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
			FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE locktype = 'advisory' AND granted AND classid = 1886874724 AND pg_stat_activity.datname = current_database()`)[0]
		second.waitFor(`msg="standing by until the leader ends"`, leader)
		require.Zero(t, first.logged("standing by"))
		require.Equal(t, 1, w.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1886874724
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`))

		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		require.Zero(t, second.logged("msg=drift"), "a standby publishes nothing")

		first.kill9()
		second.waitFor("msg=leading")
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("disabled openai", "resolved openai")
		require.Equal(t, 1.0, second.metric("provwatch_leader"))
		if second.logged("listening connection lost") == 0 {
			require.Equal(t, 1, second.logged("standing by"))
		}
		second.stop()
		var leaders []string
		for _, s := range w.statuses() {
			if s.Event == pubsub.EventLeading {
				leaders = append(leaders, s.Worker.String())
			}
		}
		require.Len(t, leaders, 2)
		require.NotEqual(t, leaders[0], leaders[1])
	})
}

// testLeaderStopsInOrder waits for the lock as the
// next leader does: it then finds the slot released, while the outbox is not delivered yet.
func testLeaderStopsInOrder(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		p := w.start(w.twoProviders(), "run").ready()
		unlock := w.lock("provwatch.audit_counter", "EXCLUSIVE")
		w.exec(`INSERT INTO provwatch.audit_outbox (id, occurred_at, actor, action, provider, details)
			VALUES (gen_random_uuid(), now(), 'operator:test', 'provider.update', 'staged', '{}')`)

		next := w.connect()
		var staged bool
		var slots string
		var err error
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_, err = next.Exec(t.Context(), `SELECT pg_advisory_lock(1886874724, term::int) FROM provwatch.alert_counter`)
			if err == nil {
				err = next.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM provwatch.audit_outbox WHERE provider = 'staged'),
					(SELECT coalesce(string_agg(CASE WHEN active THEN 'active' ELSE 'released' END, ' '), 'none') FROM pg_replication_slots WHERE database = current_database())`).Scan(&staged, &slots)
			}
		})
		eventually(t, func() bool {
			return w.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = $1`, next.PgConn().PID()) == 1
		}, "the next leader waits")
		p.signal(syscall.SIGTERM)
		waiting.Wait()
		require.NoError(t, err)
		require.True(t, staged, "the entry is still staged")
		require.Equal(t, map[string]string{"notify": "none", "wal": "released"}[w.source], slots)
		eventually(t, func() bool { return w.waiting("provwatch.audit_counter") }, "the worker waits to deliver")
		unlock()
		require.Equal(t, 0, p.wait())
		require.Equal(t, 1, w.count(`SELECT count(*) FROM provwatch.audit_log WHERE provider = 'staged'`))
	})
}

func TestStandby(t *testing.T) {
	t.Parallel()
	t.Run("OutwaitsTheAnswerTimeout", testStandbyOutwaitsTheAnswerTimeout)
	t.Run("LeadsDuringItsVerification", testStandbyLeadsDuringItsVerification)
	t.Run("FrozenInTheQueue", testStandbyFrozenInTheQueue)
	t.Run("KilledInTheQueue", testStandbyKilledInTheQueue)
	t.Run("CostsLittle", testStandbyCostsLittle)
	t.Run("UnreadyWhenTheLeaderRecordsNothing", testStandbyUnreadyWhenTheLeaderRecordsNothing)
}

// testStandbyOutwaitsTheAnswerTimeout stands by in turns that are longer than any
// other statement may take.
func testStandbyOutwaitsTheAnswerTimeout(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	env := w.twoProviders()
	leader := w.start(env, "run").ready()
	standby := w.start(env, "run", "--answer-timeout=3s").ready()
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%-listener'
			AND query LIKE '%StandBy%' AND query_start > backend_start + interval '6 seconds'`) == 1
	}, "two turns")
	require.Zero(t, standby.logged("listening connection lost"))
	standby.stop()
	leader.stop()
}

// testStandbyLeadsDuringItsVerification locks the provider table while a standby
// verifies, and ends the leader.
func testStandbyLeadsDuringItsVerification(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	env := w.twoProviders()
	leader := w.start(env, "run").ready()
	standby := w.start(env, "run").ready()
	unlock := w.lock("ai_providers", "ACCESS EXCLUSIVE")
	w.exec(`NOTIFY ai_providers_changed`)
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM pg_locks WHERE relation = 'ai_providers'::regclass AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) >= 2
	}, "both workers verify")
	leader.kill9()
	standby.waitFor("msg=leading")
	require.Zero(t, standby.logged("verification failed"), "it has not waited for the verification to end")
	unlock()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	standby.stop()
}

// testLeaderFrozenIsReplaced stops the leader's process
// and lets it go on once another worker leads. The workers log in as different roles. With
// the limits that are shipped, the alert comes within a minute.
func testLeaderFrozenIsReplaced(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env, limits := w.twoProviders(), []string{"--takeover-after=6s"}
		if shippedLimits {
			env, limits = env.With("PROVWATCH_MAX_BACKOFF", ""), nil
		}
		first := w.start(env, append([]string{"run"}, limits...)...).ready()
		w.logInAnotherWorker()
		second := w.start(env, append([]string{"run", "--http-addr=127.0.0.1:0"}, limits...)...).ready()
		began := time.Now()
		first.signal(syscall.SIGSTOP)
		unlock := func() {}
		if !shippedLimits {
			// It is not ready for as long as it cannot take over.
			unlock = w.lock("provwatch.alert_counter", "EXCLUSIVE")
		}
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		second.becomes(http.StatusServiceUnavailable, "the leader, session ", " has shown no sign of life for ")
		second.waitFor("level=WARN", "no live leader is seen", "has shown no sign of life")
		unlock()
		second.waitFor("level=WARN", "taking over from a leader that shows no sign of life")
		second.waitFor("msg=leading")
		w.expectAlerts("disabled openai")
		if shippedLimits {
			require.Less(t, time.Since(began), noAlertFor)
		}
		first.signal(syscall.SIGCONT)
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		first.waitFor("no longer leading")
		want := []string{"disabled openai", "resolved openai"}
		w.expectAlerts(want...)
		for i := range 4 {
			kind := []string{"disabled", "resolved"}[i%2]
			w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
			want = append(want, kind+" openai")
			w.expectAlerts(want...)
		}
		require.Zero(t, first.logged("msg=drift"), strings.Join(first.lines(), "\n"), fmt.Sprint(want))
		eventually(t, func() bool { status, _ := second.get("/readyz"); return status == http.StatusOK }, "the leader is ready")
		first.stop()
		second.stop()
	})
}

// testStandbyFrozenInTheQueue kills the leader after it
// has stopped a standby, whose session waits for the lock and gets it.
func testStandbyFrozenInTheQueue(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		first := w.start(env, "run", "--takeover-after=6s").ready()
		frozen := w.start(env, "run", "--takeover-after=6s").ready()
		w.waitForQueue(1)
		frozen.signal(syscall.SIGSTOP)
		third := w.start(env, "run", "--takeover-after=6s").ready()
		first.kill9()
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		third.waitFor("msg=leading")
		w.expectAlerts("disabled openai")
		frozen.signal(syscall.SIGCONT)
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("disabled openai", "resolved openai")
		require.Zero(t, frozen.logged("msg=drift"))
		frozen.stop()
		third.stop()
	})
}

// testStandbyKilledInTheQueue kills one whose session waits for the
// lock, and then the leader.
func testStandbyKilledInTheQueue(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		first := w.start(env, "run").ready()
		killed := w.start(env, "run").ready()
		w.waitForQueue(1)
		third := w.start(env, "run").ready()
		w.waitForQueue(2)
		killed.kill9()
		first.kill9()
		third.waitFor("msg=leading")
		require.Zero(t, third.logged("no sign of life"))
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		third.stop()
	})
}

// testStandbyCostsLittle counts the statements that one sends on an idle database, on
// all its connections, while it waits a number of turns of the shipped length. Its resyncs
// are more frequent than the shipped ones, each of which has minutes of its own. Its log on
// the server holds no error.
func testStandbyCostsLittle(t *testing.T) {
	t.Parallel()
	bothSourcesOf(t, func(t *testing.T, source string) *world {
		return newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), source)
	}, func(t *testing.T, w *world) {
		env := w.twoProviders()
		leader := w.start(env, "run").ready()
		standby := w.start(env.With("PGAPPNAME", "stands-by"), "run", "--resync=10s", "--rollback-after=2m").ready()
		w.waitForQueue(1)
		w.exec(`ALTER SYSTEM SET log_line_prefix = '%a '`)
		w.exec(`SELECT pg_reload_conf()`)
		const (
			turn       = "name: StandBy "
			probe      = "name: NotificationQueueUsage "
			scan       = "The same of the rows of the names given."
			privileges = "name: listMissingPrivileges "
			membership = "name: attendEnvironments "
			ping       = "-- ping"
		)
		all := func() []string {
			return regexp.MustCompile(`(?m)^stands-by\S* LOG:  (execute|statement).*`).FindAllString(w.serverLog(), -1)
		}
		of := func(sent []string, kind string) (n int) {
			for _, statement := range sent {
				if strings.Contains(statement, kind) {
					n++
				}
			}
			return n
		}
		settled := of(all(), turn) + 2 // what its start has asked for is over
		eventually(t, func() bool { return of(all(), turn) >= settled }, "it waits some turns")
		before := len(all())
		eventually(t, func() bool {
			sent := all()[before:]
			return of(sent, turn) >= 5 && of(sent, scan) >= 2 && of(sent, privileges) >= 2
		}, "it waits some more, with resyncs")
		sent := all()[before:]
		list := strings.Join(sent, "\n")
		// A turn takes five seconds: there are 12 in a minute, one probe, and two signs that the
		// worker is there, each with a ping. Turns last longer on a busy machine. That leaves 2 for each of what a resync asks for,
		// which comes in a minute of its own.
		resyncs, signs := of(sent, scan)+of(sent, privileges), of(sent, membership)
		require.LessOrEqual(t, of(sent, ping), resyncs+signs+1, list) // one can be under way
		require.LessOrEqual(t, of(sent, probe), 2+of(sent, turn)/12, list)
		require.LessOrEqual(t, signs, 2+of(sent, turn)/6, list)
		require.Equal(t, len(sent), of(sent, turn)+of(sent, probe)+of(sent, ping)+resyncs+signs, list)
		require.NotRegexp(t, `(?m)^stands-by\S* (ERROR|FATAL)`, w.serverLog())
		standby.stop()
		require.NotRegexp(t, `(?m)^stands-by\S* (ERROR|FATAL)`, w.serverLog(), "nor does stopping it")
		leader.stop()
	})
}

// logInAnotherWorker makes the next workers log in as another role than those before.
func (w *world) logInAnotherWorker() {
	w.t.Helper()
	attributes := "REPLICATION IN ROLE provwatch_wal"
	if w.source == "notify" {
		attributes = "IN ROLE provwatch_notify"
	}
	name := "test_other_" + w.source
	w.createRole(name, attributes)
	w.login["run"] = name
}

// waitForQueue waits until so many sessions wait for the leader's lock.
func (w *world) waitForQueue(n int) {
	w.t.Helper()
	eventually(w.t, func() bool {
		return w.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = 1886874724
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == n
	}, "%d standbys wait in the server", n)
}

// testLeaderAlertsSeedsOfOthers: triggers are silent in
// a seed, and the worker that seeds publishes nothing while it stands by.
func testLeaderAlertsSeedsOfOthers(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		leader := w.start(env, "run").ready()
		w.exec(`DELETE FROM ai_providers WHERE name = 'openai'`)
		w.expectAlerts("missing openai")
		standby := w.start(env, "run").ready()
		w.expectAlerts("missing openai", "resolved openai")
		standby.stop()
		leader.stop()
	})
}
