package retention

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/store"
	"provwatch/internal/waittest"
)

// worker is what a runner prunes for. Its rounds end one at a time, when the test takes
// them.
type worker struct {
	rounds chan error
	done   chan struct{} // closed at the end of the test

	mu      sync.Mutex
	rows    map[string]int64
	log     strings.Builder
	deposed bool
}

func (w *worker) RoundEnded(_ context.Context, err error) {
	select {
	case w.rounds <- err:
	case <-w.done:
	}
}

func (w *worker) RowsPruned(table string, rows int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows[table] += rows
}

func (w *worker) Confirm(context.Context, store.DBTX) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deposed {
		return store.ErrLaterTerm
	}
	return nil
}

func (w *worker) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(line)
}

func (w *worker) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// run runs a runner until the test ends or the function returned is called.
func (h *history) run(keep time.Duration) (w *worker, stop func()) {
	h.t.Helper()
	w = &worker{rounds: make(chan error), done: make(chan struct{}), rows: map[string]int64{}}
	runner := NewRunner(h.pool.Config(), keep, slog.New(slog.NewTextHandler(w, nil)), w, w)
	runner.pause, runner.interval, runner.pageSize = time.Millisecond, time.Millisecond, 3
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runner.Run(ctx, w)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		close(w.done)
		<-ended
	})
	h.t.Cleanup(stop)
	return w, stop
}

// round waits for the end of a round that began after the call.
func (w *worker) round(t *testing.T) error {
	t.Helper()
	waittest.Receive(t, w.rounds, "a round ends")
	return waittest.Receive(t, w.rounds, "a round ends")
}

func TestRunner(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"Prunes": testRunnerPrunes, "Forever": testRunnerForever, "FormerLeader": testRunnerFormerLeader, "LockedRows": testRunnerLockedRows,
		"SinkBehind": testRunnerSinkBehind, "Intervals": testRunnerIntervals,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func testRunnerPrunes(t *testing.T) {
	h := newHistory(t)
	h.alert(old, many(5)...)
	h.alert(time.Hour, "changed a")
	h.entry(old, "a", "b")
	h.acceptance("c", "lapsed", old)
	w, stop := h.run(keep)
	require.NoError(t, w.round(t))
	require.Equal(t, []string{"11 changed a"}, h.alerts())
	h.alert(time.Hour, "resolved a", "changed b")
	// By one statement, since the runner goes on meanwhile.
	h.exec(`UPDATE provwatch.drift_alerts SET detected_at = now() - interval '100 days' WHERE seq <= 12`)
	require.NoError(t, w.round(t))
	require.Equal(t, []string{"13 changed b"}, h.alerts())
	stop()
	require.Equal(t, map[string]int64{"drift_alerts": 12, "audit_log": 1, "accepted_drift": 1, "silences": 0}, w.rows)
	require.Contains(t, w.logged(), `msg="old rows pruned" older_than=2160h0m0s alerts=10 alerts_up_to=10 audit_entries=1 audit_up_to=1 acceptances=1`)
	require.Equal(t, 2, strings.Count(w.logged(), "old rows pruned"), "a round that finds nothing is not logged")
	staged, _ := h.staged()
	require.Empty(t, staged, "only the command is audited")
}

func testRunnerForever(t *testing.T) {
	NewRunner(nil, 0, quiet, nil, nil).Run(t.Context(), nil) // it returns, and has asked for nothing
}

// testRunnerFormerLeader checks that a worker that no longer leads prunes nothing.
func testRunnerFormerLeader(t *testing.T) {
	h := newHistory(t)
	w, stop := h.run(keep)
	require.NoError(t, w.round(t))
	w.mu.Lock()
	w.deposed = true
	w.mu.Unlock()
	require.ErrorIs(t, w.round(t), store.ErrLaterTerm)
	h.alert(old, many(3)...)
	require.ErrorIs(t, w.round(t), store.ErrLaterTerm)
	stop()
	require.Len(t, h.alerts(), 6)
	require.Contains(t, w.logged(), "old rows not pruned, retrying")
}

// testRunnerLockedRows has a session that locks old rows: pruning gives up soon, recording
// does not wait for it, and it goes on when the rows are free.
func testRunnerLockedRows(t *testing.T) {
	h := newHistory(t)
	h.alert(old, "changed a", "resolved a")
	h.acceptance("a", "lapsed", old)
	holder, err := h.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), `SELECT FROM provwatch.drift_alerts FOR UPDATE`)
	require.NoError(t, err)
	h.alert(time.Hour, "changed b")
	w, _ := h.run(keep)
	require.ErrorContains(t, w.round(t), "delete old rows of provwatch.drift_alerts")
	h.alert(time.Hour, "resolved b")
	require.NoError(t, holder.Rollback(t.Context()))
	waittest.Until(t, func() bool { return w.round(t) == nil }, "a round succeeds")
	require.Equal(t, []string{"3 changed b", "4 resolved b"}, h.alerts())

	// A pruner that freezes in its transaction holds no row that a record writes.
	frozen, err := h.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = frozen.Rollback(context.Background()) }()
	h.exec(`UPDATE provwatch.drift_alerts SET detected_at = now() - interval '100 days'`)
	_, err = store.On(frozen).PruneAlerts(t.Context(), store.PruneAlertsParams{Now: time.Now(), KeepSeconds: keep.Seconds(), MaxRows: 100})
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SET LOCAL lock_timeout = '1s'`); err != nil {
			return err
		}
		locked, err := store.On(tx).LockAlerts(t.Context())
		if err != nil {
			return err
		}
		if locked.LastSeq != 4 {
			return errors.New("another seq")
		}
		_, err = tx.Exec(t.Context(), `INSERT INTO provwatch.drift_alerts (seq, id, kind, provider, fields, env_hash, db_hash, source, detected_at, epoch)
			VALUES (5, gen_random_uuid(), 'changed', 'a', '[]', '', '', 'notify', now(), $1)`, locked.Epoch)
		return err
	}))
}

func testRunnerSinkBehind(t *testing.T) {
	h := newHistory(t)
	h.alert(old, many(2)...)
	h.cursor("webhook", "drift", 1)
	w, stop := h.run(keep)
	require.NoError(t, w.round(t))
	require.Len(t, h.alerts(), 4)
	require.NoError(t, w.round(t))
	h.cursor("webhook", "drift", 3)
	require.NoError(t, w.round(t))
	require.Equal(t, []string{"3 changed p1", "4 resolved p1"}, h.alerts())
	stop()
	require.Equal(t, 2, strings.Count(w.logged(), `msg="old rows stay: a sink has not had them" sink=webhook stream=drift`), w.logged())
}

func testRunnerIntervals(t *testing.T) {
	for keep, want := range map[time.Duration]time.Duration{
		365 * day: time.Hour, keep: time.Hour, 10 * time.Hour: 6 * time.Minute, 10 * time.Second: time.Second,
	} {
		require.Equal(t, want, NewRunner(nil, keep, quiet, nil, nil).interval, keep)
	}
}
