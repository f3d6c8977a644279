//go:build e2e

package test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
)

// testSlotGapWhileNobodyListens has a worker that finds its slot gone and ends. Whoever comes
// later learns of it: by the table, from a metric of the next worker, on its page, by a
// sink and with "worker watch".
func testSlotGapWhileNobodyListens(t *testing.T) {
	t.Parallel()
	w := newSinkWorld(t, "wal")
	e := w.endpoint()
	with, without := w.webhook(e), w.twoProviders()
	w.start(with, "run").ready().stop()
	w.exec(`SELECT pg_drop_replication_slot($1)`, w.freeSlot())
	p := w.start(without, "run", "--http-addr=127.0.0.1:0").ready()
	w.expectAlerts("gap")
	require.Equal(t, 1.0, p.series()[`provwatch_drift_alerts_total{kind="gap",source="wal"}`])
	p.waitFor("level=WARN", "changes may have passed unseen", `reason="the replication slot no longer exists"`)
	p.stop()
	require.Empty(t, e.got("drift"))

	p = w.start(with, "run", "--http-addr=127.0.0.1:0").ready()
	require.Equal(t, []string{"gap 1 the replication slot no longer exists wal"},
		w.strings(`SELECT concat_ws(' ', kind, seq, reason, source) FROM provwatch.drift_alerts WHERE provider = ''`))
	at := w.count(`SELECT extract(epoch FROM detected_at)::bigint FROM provwatch.drift_alerts`)
	series := p.series()
	require.InDelta(t, at, series[`provwatch_last_gap_timestamp_seconds{kind="gap"}`], 1)
	require.Equal(t, 0.0, series[`provwatch_last_gap_timestamp_seconds{kind="rewound"}`])
	eventually(t, func() bool { return len(e.got("drift")) == 1 }, "the sink gets it")
	require.Equal(t, delivery{}.Subject, e.got("drift")[0].Subject)
	require.Equal(t, "gap ", e.got("drift")[0].String())
	code, page := p.get("/")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, page, "the replication slot no longer exists")
	require.Contains(t, page, "all providers")
	text := w.run(nil, "status")
	require.Equal(t, 0, text.Code, text.Stderr)
	require.Regexp(t, `#1 .* gap +- +reason +- +the replication slot no longer exists`, text.Stdout)
	watch := w.start(nil, "watch", "--since", "0", "-o", "json")
	eventually(t, func() bool { return len(watch.output()) == 1 }, "it is printed")
	var alert pubsub.DriftAlert
	require.NoError(t, json.Unmarshal([]byte(watch.output()[0]), &alert))
	require.Equal(t, drift.Gap, alert.Kind)
	require.Equal(t, "the replication slot no longer exists", alert.Reason)
	require.Equal(t, w.strings(`SELECT epoch::text FROM provwatch.alert_counter`)[0], alert.Epoch.String())
	people := w.start(nil, "watch", "--since", "0")
	eventually(t, func() bool { return len(people.output()) == 2 }, "it is printed")
	require.Regexp(t, `  #1  gap  -  \(wal\)$`, people.output()[0])
	require.Equal(t, "    reason  the replication slot no longer exists", people.output()[1])
	p.stop()
}
