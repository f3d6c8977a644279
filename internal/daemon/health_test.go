package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/web"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	t.Run("BootReason", testHealthBootReason)
	t.Run("NotComparable", testHealthNotComparable)
	t.Run("ReasonsLoggedOnce", testHealthReasonsLoggedOnce)
}

// testHealthBootReason has a connection for the listener that cannot
// be made, as where a pooler has no more room.
func testHealthBootReason(t *testing.T) {
	h := &health{}
	require.EqualError(t, h.ready(), "booting")
	h.setListening(errors.New("not listening: query_wait_timeout"))
	require.EqualError(t, h.ready(), "booting: not listening: query_wait_timeout")
	h.setListening(nil)
	require.EqualError(t, h.ready(), "booting")
	h.setVerified(true, nil)
	require.NoError(t, h.ready())
}

// changeCount is a display that counts changes of the health.
type changeCount int

func (c *changeCount) Changed(web.Change) { *c++ }

func testHealthNotComparable(t *testing.T) {
	t.Parallel()
	var changes changeCount
	h := &health{display: &changes}
	h.setListening(nil)
	h.setVerified(true, nil)
	changes = 0
	for range 2 {
		h.setNotComparable(map[string]string{"b": "the reason", "a": "another"})
	}
	require.EqualValues(t, 1, changes)
	require.NoError(t, h.ready())
	remarks := h.remarks()
	require.Equal(t, []string{"a: cannot be compared: another", "b: cannot be compared: the reason"}, remarks)
	require.Equal(t, remarks, h.worker().NotComparable)
	many := map[string]string{}
	for _, name := range strings.Fields(strings.Repeat("x ", maxRemarks+2)) {
		many[name+strings.Repeat("y", len(many))] = "r"
	}
	h.setNotComparable(many)
	remarks = h.remarks()
	require.Len(t, remarks, maxRemarks+1)
	require.Equal(t, "and 2 more cannot be compared", remarks[maxRemarks])
	h.setNotComparable(nil)
	remarks = h.remarks()
	require.Empty(t, remarks)
}

// testHealthReasonsLoggedOnce has reasons that differ in numbers, and
// statements that wait for the same session one after the other.
func testHealthReasonsLoggedOnce(t *testing.T) {
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
