package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/lockwait"
	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
)

// TestWaits has something that lasts, at moments that the test chooses.
func TestWaits(t *testing.T) {
	t.Parallel()
	config, err := postgres.ParseURL(pgtest.NewDatabase(t))
	require.NoError(t, err)
	activity := postgres.ActivityOf(config.ConnConfig)
	var holders lockwait.Holders
	looks := 0
	w := &waits{activity: activity, health: &health{}, patience: 5 * time.Second, linger: 20 * time.Second, look: func(context.Context, uint32) (lockwait.Holders, error) {
		looks++
		return holders, nil
	}}
	reason := func(after time.Duration) error { return w.reason(t.Context(), time.Now().Add(after)) }
	_, end := activity.Handle(t.Context(), "the handling of it")
	require.NoError(t, reason(0))
	require.NoError(t, reason(9*time.Second))
	require.ErrorContains(t, reason(11*time.Second), "the handling of it has not ended since ")
	end()
	require.Error(t, reason(12*time.Second), "it could be tried again")
	require.NoError(t, reason(14*time.Second))
	require.Zero(t, looks, "it is no session's")

	holders = lockwait.Holders{{PID: 4711, Role: "app", Application: "psql"}}
	end = activity.Begin("the creation", 7)
	require.NoError(t, reason(4*time.Second))
	require.ErrorContains(t, reason(6*time.Second), "the creation has waited since ")
	require.ErrorContains(t, reason(7*time.Second), `for session 4711 (role "app", application "psql"); SELECT pg_terminate_backend(4711) ends it`)
	require.Equal(t, 1, looks)
	require.Error(t, reason(12*time.Second))
	require.Equal(t, 2, looks, "it is looked for again after a while")
	end()

	// What was broken off is tried again.
	w.health.setVerified(true, errors.New("timeout"))
	require.ErrorContains(t, reason(20*time.Second), "4711")
	require.NoError(t, reason(40*time.Second), "and not named for ever")
	end = activity.Begin("the creation", 7)
	require.Error(t, reason(time.Minute))
	end()
	w.health.setVerified(true, nil)
	require.NoError(t, reason(time.Minute+3*time.Second), "it has succeeded")

	// It waits in several tries, and the first look falls between two.
	found := holders
	holders = nil
	end = activity.BeginRetried("the migration", 7)
	require.NoError(t, reason(6*time.Second))
	holders = found
	require.ErrorContains(t, reason(7*time.Second), "the migration has waited since ", "it is looked for again at once")
	holders = nil
	require.ErrorContains(t, reason(15*time.Second), "4711", "and not forgotten by a look between two others")
	end()
	require.NoError(t, reason(18*time.Second))

	// The holder cannot be looked for.
	w.look = func(context.Context, uint32) (lockwait.Holders, error) { return nil, errors.New("no connection") }
	end = activity.Begin("the creation", 7)
	require.ErrorContains(t, reason(2*time.Minute), "the creation has not ended since ")
	end()
}

// TestEachReasonIsLoggedOnceUntilTheWorkerIsReady has reasons that differ in numbers, and
// statements that wait for the same session one after the other.
func TestEachReasonIsLoggedOnceUntilTheWorkerIsReady(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := &health{logger: slog.New(slog.NewTextHandler(&log, nil))}
	lines := func(level, text string) (n int) {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "level="+level) && strings.Contains(line, text) {
				n++
			}
		}
		return n
	}
	h.setListening(nil)
	require.Empty(t, log.String(), "a boot that goes on is no news")
	h.setVerified(true, nil)
	require.Empty(t, log.String())
	for _, text := range []string{"no answer of session 1", "no answer of session 2", "another"} {
		h.setVerified(true, errors.New(text))
	}
	require.Equal(t, 1, lines("WARN", "no answer of session"))
	require.Equal(t, 1, lines("WARN", "another"))
	for _, doing := range []string{"look", "connect"} {
		h.setVerified(true, fmt.Errorf("%s: %w", doing, &pgconn.PgError{Severity: "FATAL", Code: "53300", Message: "too many connections"}))
		h.setListening(fmt.Errorf("%s: %w", doing, &postgres.PoolingError{}))
	}
	h.setListening(nil)
	require.Equal(t, 1, lines("WARN", "too many connections"))
	require.Equal(t, 1, lines("WARN", "there is a pooler"))
	holders := lockwait.Holders{{PID: 4711}}
	h.setWaiting(&lockwait.LateError{What: "one", Holders: holders})
	h.setWaiting(nil)
	h.setWaiting(&lockwait.LateError{What: "two", Holders: holders})
	require.Equal(t, 1, lines("WARN", "4711"))
	h.setWaiting(nil)
	require.Zero(t, lines("INFO", "ready again"))
	h.setVerified(true, nil)
	require.Equal(t, 1, lines("INFO", "ready again"))
	h.setWaiting(&lockwait.LateError{What: "two", Holders: holders})
	require.Equal(t, 2, lines("WARN", "4711"))
}
