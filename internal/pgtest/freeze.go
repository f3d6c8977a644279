package pgtest

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/waittest"
)

// frozenAnswer is how long a server may take to show what a frozen session waits for, before the
// session goes on: it can hold the lock that the answer needs.
const frozenAnswer = 2 * time.Second

// FreezeWaiting stops the process of a session, or of a worker of the server, by SIGSTOP while it waits
// for something to do. At another moment it could hold a lock that every session of the server needs.
// What it returns lets the process go on, and so does the end of the test. url is that of the server.
func FreezeWaiting(t testing.TB, url string, pid int) (thaw func()) {
	t.Helper()
	thaw = func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(thaw)
	waittest.Until(t, func() bool {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatalf("freezing process %d: %v", pid, err)
		}
		waittest.Until(t, func() bool { return isStopped(pid) }, "process %d has taken the signal", pid)
		waits, err := isWaiting(t.Context(), url, pid)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("looking at process %d, which is frozen: %v", pid, err)
		}
		if !waits {
			thaw()
		}
		return waits
	}, "process %d waits when it is frozen", pid)
	return thaw
}

// isStopped reports whether a process is stopped by a signal. It takes the signal when it is
// scheduled next.
func isStopped(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " T")
}

// isWaiting reports whether a session waits for its client, or for work.
func isWaiting(ctx context.Context, url string, pid int) (waits bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, frozenAnswer)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = conn.QueryRow(ctx, `SELECT coalesce(wait_event_type IN ('Activity', 'Client'), false) FROM pg_stat_activity WHERE pid = $1`, pid).Scan(&waits)
	return waits, err
}
