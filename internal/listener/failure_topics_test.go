//go:build e2e

package listener

import (
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
)

// lines are those of a log.
type lines struct {
	mu   sync.Mutex
	list []string
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, string(line))
	return len(line), nil
}

// with returns those that hold the text.
func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.list {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// testListenerFaultsReasonsLoggedOnce has a server without TLS that is full, and then absent.
func testListenerFaultsReasonsLoggedOnce(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	exec(t, cluster.URL(), "CREATE ROLE full_up LOGIN PASSWORD 'hunter2' CONNECTION LIMIT 0")
	u, err := url.Parse(cluster.TCPURL(t, cluster.URL(), cluster.TCPAddr()))
	require.NoError(t, err)
	u.User = url.UserPassword("full_up", "hunter2")
	u.RawQuery = "sslmode=prefer"
	config, err := pgx.ParseConfig(u.String())
	require.NoError(t, err)
	var log lines
	var seen events
	l := handle(New(config, &seen, slog.New(slog.NewTextHandler(&log, nil))), &seen)
	l.RetryWithin(100 * time.Millisecond)
	start(t, l)
	lost := func() int {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		return len(seen.list)
	}
	triedAgain := func() {
		t.Helper()
		before := lost()
		waittest.Until(t, func() bool { return lost() > before+2 }, "it tries again")
	}

	triedAgain()
	full := log.with("listening connection lost")
	require.Len(t, full, 1)
	require.Contains(t, full[0], "level=WARN")
	require.Regexp(t, `error="failed to connect to .user=full_up database=\w+.: \S+ \(\S+\): server error: FATAL: too many connections for role \\"full_up\\" \(SQLSTATE 53300\)" `, full[0])

	cluster.Stop(t, "fast")
	triedAgain()
	absent := log.with("listening connection lost")
	last := absent[len(absent)-1]
	require.Contains(t, last, "level=INFO")
	require.Equal(t, 1, strings.Count(last, "connection refused"), "of both attempts, with TLS and without")
	triedAgain()
	require.Equal(t, absent, log.with("listening connection lost"), "and once")

	cluster.StartAgain(t)
	exec(t, cluster.URL(), "ALTER ROLE full_up CONNECTION LIMIT -1")
	waittest.Until(t, func() bool { return len(log.with("msg=listening ")) > 0 }, "it listens")
	// Committed before the session ends, which else could be followed by another.
	exec(t, cluster.URL(), "ALTER ROLE full_up CONNECTION LIMIT 0")
	exec(t, cluster.URL(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'full_up'")
	waittest.Until(t, func() bool { return len(log.with("too many connections")) == 2 }, "it is logged again after it listened")
}
