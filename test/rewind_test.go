//go:build e2e

package test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// rewinds returns the alerts "rewound", each as "seq certain".
func (w *world) rewinds() []string {
	w.t.Helper()
	return w.strings(`SELECT concat_ws(' ', seq, certain) FROM provwatch.drift_alerts WHERE kind = 'rewound' ORDER BY seq`)
}

// newWorldWithSinksOn is newWorldOn whose workers have what sinks take as well.
func newWorldWithSinksOn(t *testing.T, url, source string) *world {
	t.Helper()
	w := newWorldOn(t, url, source)
	w.createRole("test_sinks_"+source, "REPLICATION IN ROLE provwatch_"+source+", provwatch_sinks")
	w.login["run"], w.login["sinks"] = "test_sinks_"+source, "test_operator"
	return w
}

func TestRewind(t *testing.T) {
	t.Parallel()
	t.Run("RestoredBackup", testRewindRestoredBackup)
	t.Run("Promotion", testRewindPromotion)
	t.Run("DumpUnderAWorker", testRewindDumpUnderAWorker)
}

// testRewindRestoredBackup puts the server's files back under a running worker,
// which has published more since, and whose sink was sent it.
func testRewindRestoredBackup(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.NewCluster(t)
			w := newWorldWithSinksOn(t, cluster.NewDatabase(t), source)
			e := w.endpoint()
			p := w.start(w.webhook(e), "run", "--http-addr=127.0.0.1:0").ready()
			flip := func(enabled bool, seqs int) {
				t.Helper()
				w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, enabled)
				eventually(t, func() bool { return w.count(`SELECT last_seq FROM provwatch.alert_counter`) == seqs }, "alert %d", seqs)
			}
			flip(false, 1)
			flip(true, 2)
			cluster.Stop(t, "fast")
			putBack := cluster.Save(t)
			cluster.StartAgain(t)
			w.db = w.connect()
			flip(false, 3)
			flip(true, 4)
			flip(false, 5)
			eventually(t, func() bool { return len(once(e.got("drift"))) == 5 }, "the sink gets all")
			cluster.Stop(t, "fast")
			putBack()
			cluster.StartAgain(t)
			w.db = w.connect()
			eventually(t, func() bool { return len(w.rewinds()) == 1 }, "the rewind is recorded, have %s", lazily(w.alerts))
			require.Equal(t, []string{"3 t"}, w.rewinds())
			p.waitFor("level=WARN", "alerts may be lost", "the last alert has the seq 2, and 5 was seen before")
			eventually(t, func() bool {
				return p.series()[`provwatch_last_gap_timestamp_seconds{kind="rewound"}`] > 0
			}, "it is measured")
			// What is changed from now on reaches the sink.
			flip(false, 4)
			eventually(t, func() bool { return len(once(e.got("drift"))) == 7 }, "the sink gets what comes after")
			require.Equal(t, []string{"rewound ", "disabled openai"}, once(e.got("drift"))[5:])
			require.Equal(t, 2, w.count(`SELECT count(DISTINCT epoch) FROM provwatch.drift_alerts`))
			eventually(t, func() bool { code, _ := p.get("/readyz"); return code == http.StatusOK }, "it is ready")
			code, page := p.get("/")
			require.Equal(t, http.StatusOK, code)
			const reason = "the last alert has the seq 2, and 5 was seen before"
			require.Equal(t, 1, strings.Count(page, reason))
			for row := range strings.SplitSeq(page, "<tr") {
				if strings.Contains(row, reason) {
					require.Contains(t, row, "rewound")
					require.Contains(t, row, "all providers")
				}
			}
			text := w.run(nil, "status")
			require.Equal(t, 0, text.Code, text.Stderr)
			require.Regexp(t, `#3 .* rewound +- +reason +- +`+reason, text.Stdout)
			p.stop()
			w.searchForSecrets()
		})
	}
}

// testRewindPromotion promotes a standby: it can lack the latest commits.
func testRewindPromotion(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			promote(t, source)
		})
	}
}

func promote(t *testing.T, source string) {
	primary := pgtest.NewCluster(t)
	w := newWorldOn(t, primary.URL(), source)
	env := w.twoProviders()
	w.start(env, "run").ready().stop()
	standby := primary.NewStandby(t)
	w.db = w.connect()
	p := w.start(env, "run").ready()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	eventually(t, func() bool { return len(w.alerts()) == 1 }, "an alert")
	p.stop()
	at := w.strings(`SELECT pg_current_wal_lsn()::text`)[0]
	promoted := &world{t: t, url: standby.URL(), source: source, notes: w.notes}
	promoted.db = promoted.connect()
	promoted.findServer()
	eventually(t, func() bool { return promoted.count(`SELECT (pg_last_wal_replay_lsn() >= $1::pg_lsn)::int`, at) == 1 }, "the standby has all")
	primary.Stop(t, "immediate")
	standby.Promote(t)
	promoted.db = promoted.connect()
	for range 2 {
		p = promoted.start(env, "run", "--on-boot-drift=alert", "--http-addr=127.0.0.1:0").ready()
		require.Equal(t, []string{"2 f"}, promoted.rewinds(), "once")
		require.Zero(t, p.series()[`provwatch_last_gap_timestamp_seconds{kind="rewound"}`])
		p.stop()
	}
	require.Equal(t, 1, p.logged("msg=stopped"))
	require.Equal(t, []string{"the server was promoted or recovered: it is on timeline 2, and was on 1"},
		promoted.strings(`SELECT reason FROM provwatch.drift_alerts WHERE kind = 'rewound'`))
	primary.StartAgain(t)
	w.db = w.connect()
}

// testRewindDumpUnderAWorker restores an older dump over the database that a worker
// watches.
func testRewindDumpUnderAWorker(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		w.needsDump()
		w.login = nil // its tables are dropped and made again
		p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		dump := w.dumpFile()
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("disabled openai", "resolved openai") // verified together, they are in the order of their names
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
		w.expectAlerts("disabled openai", "resolved openai", "disabled anthropic")
		w.restore(dump)
		eventually(t, func() bool { return len(w.rewinds()) == 1 }, "the rewind is recorded, have %s", lazily(w.alerts))
		require.Equal(t, []string{"2 t"}, w.rewinds())
		eventually(t, func() bool { code, _ := p.get("/readyz"); return code == http.StatusOK }, "it is ready")
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		eventually(t, func() bool { a := w.alerts(); return a[len(a)-1] == "resolved openai" }, "it goes on, have %s", lazily(w.alerts))
		want := "disabled openai rewound resolved openai"
		if w.source == "wal" {
			want = "disabled openai rewound gap resolved openai"
		}
		require.Equal(t, want, strings.Join(w.alerts(), " "))
		p.stop()
	})
}
