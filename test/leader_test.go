package test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// TestAHundredFailoversDoubleNoAlertAndMissNone ends the leader again and again,
// by kill -9 and by SIGTERM in turn, with a change while it is down.
func TestAHundredFailoversDoubleNoAlertAndMissNone(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "wal")
	env := w.twoProviders()
	// One change for each failover, before, while and after the leader ends: the
	// worker that takes over sees each as a transaction of its own.
	leader := w.start(env, "run").ready()
	standby := w.start(env, "run", "--on-boot-drift=alert").ready()
	const failovers = 100
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
	}
	w.expectAlerts(want...)
	standby.ready()
	leader.stop()
	standby.waitFor("msg=leading")
	standby.stop()
	require.Equal(t, want, w.alerts())
}

func TestOneOfSeveralWorkersLeadsAndTheOthersStandBy(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		first := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
		second := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
		require.Equal(t, 1.0, first.metric("provwatch_leader"))
		require.Zero(t, second.metric("provwatch_leader"))
		leader := w.strings(`SELECT format('leader_session=%s leader_role=%s leader_address=127.0.0.1 leader_since=%s', pid, usename,
			to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
			FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE locktype = 'advisory' AND granted AND pg_stat_activity.datname = current_database()`)[0]
		second.waitFor(`msg="standing by until the leader ends"`, leader)
		require.Zero(t, first.logged("standing by"))
		require.Equal(t, 1, w.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`))

		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		require.Zero(t, second.logged("msg=drift"), "a standby publishes nothing")

		first.kill9()
		second.waitFor("msg=leading")
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("disabled openai", "resolved openai")
		require.Equal(t, 1.0, second.metric("provwatch_leader"))
		require.Equal(t, 1, second.logged("standing by"))
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

// TestALeaderThatFreezesIsReplacedAndDoesNoHarmWhenItGoesOn stops the leader's
// process, takes its listening session away as the server does with a peer that
// vanished, and lets it go on.
func TestALeaderThatFreezesIsReplacedAndDoesNoHarmWhenItGoesOn(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		first := w.start(env, "run").ready()
		second := w.start(env, "run").ready()
		first.signal(syscall.SIGSTOP)
		w.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
		second.waitFor("msg=leading")
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
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
		require.Zero(t, first.logged("msg=drift", "seq=3"), strings.Join(first.lines(), "\n"), fmt.Sprint(want))
		first.stop()
		second.stop()
	})
}

// TestTheLeaderAlertsWhatTheStartOfAnotherWorkerHasSeeded: triggers are silent in
// a seed, and the worker that seeds publishes nothing while it stands by.
func TestTheLeaderAlertsWhatTheStartOfAnotherWorkerHasSeeded(t *testing.T) {
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
