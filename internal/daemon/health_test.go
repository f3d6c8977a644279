package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/regularfile"
	"provwatch/internal/remedy"
	"provwatch/internal/web"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	t.Run("BootReason", testHealthBootReason)
	t.Run("NotComparable", testHealthNotComparable)
	t.Run("NotLoaded", testHealthNotLoaded)
	t.Run("ReasonsLoggedOnce", testHealthReasonsLoggedOnce)
	t.Run("RemedyOfTarget", testHealthRemedyOfTarget)
}

// testHealthNotLoaded has files of an environment that change while it is in use. Two variables
// name one of them.
func testHealthNotLoaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(path, content string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	env, key := filepath.Join(dir, "providers.env"), filepath.Join(dir, "key")
	write(env, "1")
	write(key, "1")
	load := func(h *health) {
		var files []regularfile.Snapshot
		for _, path := range []string{env, key, key} {
			_, s, err := regularfile.Snap(path, regularfile.Limit)
			require.NoError(t, err)
			files = append(files, s)
		}
		h.setLoaded(files)
	}
	h := &health{}
	load(h)
	require.Empty(t, h.remarks())
	require.Empty(t, h.worker().NotLoaded)
	write(key, "two")
	require.Equal(t, []string{"environment: " + key + " on disk is not what is loaded"}, h.remarks())
	require.Equal(t, []string{key}, h.worker().NotLoaded)
	// A refused reload leaves it so.
	h.setRefused(errors.New("no"))
	require.Equal(t, []string{key}, h.worker().NotLoaded)
	load(h)
	require.Empty(t, h.remarks())
	require.NoError(t, os.Remove(env))
	require.Equal(t, []string{env}, h.worker().NotLoaded)
}

// testHealthRemedyOfTarget has errors of the connection, whose remedies differ for a target
// of --config, where a boot waits for it and where a running worker has lost it.
func testHealthRemedyOfTarget(t *testing.T) {
	t.Parallel()
	h := &health{site: remedy.Site{Target: &remedy.Target{Name: "billing", File: "/etc/provwatch.yaml"}}}
	h.ConnectionFailed(&postgres.UnreachableError{Address: "h:5432/d", Remedy: remedy.Advice{remedy.CheckConnection()}, Err: errors.New("refused")})
	const text = "booting: cannot connect to PostgreSQL at h:5432/d: refused; check the target's database in the file of --config, that the server runs, and --connect-timeout"
	require.EqualError(t, h.ready(), text)
	require.Equal(t, text, h.worker().NotReady)

	config, err := postgres.ParseURL("postgres://u@h/d")
	require.NoError(t, err)
	h.ConnectionFailed(nil)
	h.setListening(postgres.Explain(config, &pgconn.PgError{Severity: "FATAL", Code: pgerrcode.InvalidPassword, Message: "no"}))
	require.ErrorContains(t, h.ready(), "; check the user and the password of the target's database: those of its database_url_env or ")
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
	h.setWaiting(&lockwait.LateError{What: "one", Holders: holders}, false)
	h.setWaiting(nil, false)
	h.setWaiting(&lockwait.LateError{What: "two", Holders: holders}, false)
	require.Equal(t, 1, lines("WARN", "4711"))
	h.setWaiting(nil, false)
	require.Zero(t, lines("INFO", "ready again"))
	h.setVerified(true, nil)
	require.Equal(t, 1, lines("INFO", "ready again"))
	h.setWaiting(&lockwait.LateError{What: "two", Holders: holders}, false)
	require.Equal(t, 2, lines("WARN", "4711"))
}
