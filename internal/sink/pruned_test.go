package sink

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/retention"
)

// logLines is a log that tests read while it is written.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// count returns how many lines have the text.
func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// prune prunes all that may go, after it has made all rows old.
func (f *feed) prune() retention.Pruned {
	f.t.Helper()
	for _, statement := range []string{
		`UPDATE provwatch.drift_alerts SET detected_at = detected_at - interval '1 year'`,
		`UPDATE provwatch.audit_log SET delivered_at = delivered_at - interval '1 year'`,
	} {
		_, err := f.pool.Exec(f.t.Context(), statement)
		require.NoError(f.t, err)
	}
	report, err := retention.Prune(f.t.Context(), f.pool, retention.Request{OlderThan: time.Hour, Actor: "operator:test"})
	require.NoError(f.t, err)
	return report.Pruned
}

func TestPruned(t *testing.T) {
	t.Parallel()
	t.Run("BeginsAtTheStart", testPrunedBeginsAtTheStart)
	t.Run("BeginsAgain", testPrunedBeginsAgain)
	t.Run("EndsWhatFires", testPrunedEndsWhatFires)
	t.Run("BesideDeliveries", testPrunedBesideDeliveries)
}

// testPrunedBeginsAtTheStart has a sink that begins where rows were pruned, and others were
// deleted by hand: only the latter are a gap.
func testPrunedBeginsAtTheStart(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	log := &logLines{}
	f.logger = slog.New(slog.NewTextHandler(log, nil))
	f.alert("missing lasts", "missing a", "resolved a", "missing b", "resolved b", "missing c")
	f.audit("a", "b", "c")
	pruned := f.prune()
	require.Equal(t, retention.Pruned{Alerts: 4, AlertsUpTo: 5, AuditEntries: 2, AuditUpTo: 2}, pruned)
	f.audit() // delivers what the pruning has staged
	f.alert("resolved c", "missing d", "missing e")
	_, err := f.pool.Exec(t.Context(), `DELETE FROM provwatch.drift_alerts WHERE seq = 8`)
	require.NoError(t, err)

	c := newConsumer(t, nil)
	c.server.Start()
	_, stop := f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "missing lasts", "missing c", "resolved c", "missing e")
	c.expect(Audit, "provider.create c", "history.prune *")
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 9 && f.cursor("webhook", Audit) == 4 }, "the cursors are at the end")
	stop()
	require.Equal(t, []string{"sink_gap: sink webhook: 1 of drift up to seq 8 were deleted before it had them"}, f.announcements())
	require.Equal(t, 1, f.metrics.of("gap webhook drift"))
	require.Zero(t, f.metrics.of("gap webhook audit"))
	require.Equal(t, 1, log.count(`msg="events pruned before delivery" sink=webhook stream=drift pruned_up_to=5`))
	require.Equal(t, 1, log.count("events pruned before delivery"), "the first entry that is left is where the audit begins")
}

// testPrunedBeginsAgain deletes the cursor of a sink, so that it begins again.
func testPrunedBeginsAgain(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	log := &logLines{}
	f.logger = slog.New(slog.NewTextHandler(log, nil))
	c := newConsumer(t, nil)
	c.server.Start()
	f.alert("missing lasts", "missing a", "resolved a", "missing b")
	runner, _ := f.run(time.Hour, newWebhook(t, c.server.URL))
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 4 }, "the cursor is at the end")
	require.Equal(t, retention.Pruned{Alerts: 2, AlertsUpTo: 3}, f.prune())
	_, err := f.pool.Exec(t.Context(), `DELETE FROM provwatch.sink_cursors WHERE stream = 'drift'`)
	require.NoError(t, err)
	f.alert("resolved b")
	runner.Wake(Drift)
	c.expect(Drift, "missing lasts", "missing a", "resolved a", "missing b", "resolved b", "missing lasts", "missing b", "resolved b")
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 5 }, "the cursor is at the end")
	eventually(t, func() bool { return log.count("pruned_up_to=3") >= 1 }, "it is logged")
	require.Empty(t, f.announcements())
	require.Zero(t, f.metrics.of("gap webhook drift"))
}

// testPrunedEndsWhatFires prunes while Alertmanager has an alert whose end it has not had: after
// a restart the worker still knows what to end.
func testPrunedEndsWhatFires(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.alert("missing a", "missing b", "resolved b", "missing c")
	require.NoError(t, Register(t.Context(), f.pool, Options{Sinks: []Sink{&Alertmanager{}}, FromStart: true}))
	_, err := f.pool.Exec(t.Context(), `UPDATE provwatch.sink_cursors SET seq = 2`)
	require.NoError(t, err)
	require.Zero(t, f.prune().Alerts)
	r := reader{pool: f.pool, stream: Drift}
	firing, err := r.firing(t.Context(), 2)
	require.NoError(t, err)
	var seqs []int64
	for _, e := range firing {
		seqs = append(seqs, e.Seq)
	}
	require.Equal(t, []int64{1, 2, 3, 4}, seqs, "what fires, its end, and what fired before the end")
}

// testPrunedBesideDeliveries prunes all the while alerts and entries are recorded and
// delivered, to a sink that fails at times. It gets each once, in order, and misses none.
func testPrunedBesideDeliveries(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	calls := 0
	var mu sync.Mutex
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request, _ received) bool {
		mu.Lock()
		defer mu.Unlock()
		calls++
		fails := calls%7 == 0
		if fails {
			w.WriteHeader(503)
		}
		return fails
	})
	c.server.Start()
	runner, _ := f.run(time.Hour, newWebhook(t, c.server.URL))
	pruning, end := context.WithCancel(t.Context())
	var pruner sync.WaitGroup
	pruned := 0
	pruner.Go(func() {
		for pruning.Err() == nil {
			report, err := retention.Prune(context.Background(), f.pool, retention.Request{OlderThan: time.Hour, Actor: "operator:test"})
			if err != nil {
				t.Error(err)
			}
			pruned += int(report.Alerts)
		}
	})
	var want []string
	for i := range 60 {
		name := fmt.Sprint("p", i%5)
		kind := []string{"missing ", "resolved "}[i/5%2]
		f.alert(kind + name)
		_, err := f.pool.Exec(t.Context(), `UPDATE provwatch.drift_alerts SET detected_at = now() - interval '1 day' WHERE seq = $1`, i+1)
		require.NoError(t, err)
		want = append(want, kind+name)
		runner.Wake(Drift)
	}
	eventually(t, func() bool { return f.cursor("webhook", Drift) == 60 }, "the cursor is at the end")
	end()
	pruner.Wait()
	pruned += int(f.prune().Alerts)
	require.ElementsMatch(t, want, c.got(Drift))
	require.Empty(t, f.announcements())
	require.Equal(t, 59, pruned, "all but the last")
}
