//go:build e2e

package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// TestSynchronousStandby commits on a server that waits for a standby
// which does not answer: the stream shows what queries do not see yet. The database is
// local, so that the worker's own commits do not wait.
func TestSynchronousStandby(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"ignore", "warn"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, pgtest.NewCluster(t).NewDatabase(t), "wal")
			w.exec("ALTER DATABASE " + pgx.Identifier{w.db.Config().Database}.Sanitize() + " SET synchronous_commit = local")
			w.exec("SET synchronous_commit = local")
			env, _, _ := w.oneProviderWithTwoKeys()
			p := w.start(env, "run", "--credential-drift="+mode).ready()
			var committed <-chan error
			var release func()
			if mode == "warn" {
				committed, release = w.commitSlowly("INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $1 FROM ai_providers", w.secret("sk-third-0123456789-abcdef"))
				w.exec("UPDATE ai_providers SET enabled = false")
			} else {
				committed, release = w.commitSlowly("UPDATE ai_providers SET enabled = $1", false)
			}
			w.expectAlerts("disabled proxy")
			asked := w.statements("pg_xact_status") // a record asks too, and does not wait for long
			w.exec("NOTIFY ai_providers_changed")
			// It asks more and more rarely: for about a second by then, while verifications
			// in a row would have failed within one.
			eventually(t, func() bool { return w.statements("pg_xact_status") >= asked+11 }, "the worker waits until it sees the commit")

			release()
			require.NoError(t, <-committed)
			if mode == "warn" {
				p.waitFor("level=WARN", "credentials in the database differ", "provider=proxy", "3, of these 1 not in the environment")
			}
			w.exec("UPDATE ai_providers SET enabled = true")
			w.expectAlerts("disabled proxy", "resolved proxy")
			require.NotContains(t, w.alerts(), "gap")
			p.stop()
		})
	}
}

// commitSlowly commits a change on a server whose synchronous standby does not answer,
// and returns when the commit waits for it, until it is released. The channel receives its error.
func (w *world) commitSlowly(statement string, args ...any) (committed <-chan error, release func()) {
	w.t.Helper()
	conn := w.connect()
	_, err := conn.Exec(w.t.Context(), "SET synchronous_commit = on")
	require.NoError(w.t, err)
	ended := make(chan error, 1)
	var group conc.WaitGroup
	w.t.Cleanup(group.Wait)
	release = w.holdCommits()
	group.Go(func() {
		_, err := conn.Exec(w.t.Context(), statement, args...)
		ended <- err
	})
	eventually(w.t, func() bool { return w.awaitsStandby(conn) }, "the commit waits for the standby")
	return ended, release
}

// holdCommits makes commits wait for a standby that is absent, until they are released or the
// test ends, apart from those of sessions whose synchronous_commit is local. The server is the
// test's own.
func (w *world) holdCommits() (release func()) {
	w.t.Helper()
	release = func() {
		for _, statement := range []string{"ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"} {
			_, err := w.db.Exec(context.Background(), statement)
			require.NoError(w.t, err)
		}
	}
	w.t.Cleanup(release)
	w.exec("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
	w.exec("SELECT pg_reload_conf()")
	// The checkpointer puts the setting into force for all sessions, some time after the reload.
	eventually(w.t, w.holdsCommits, "commits wait for the standby")
	return release
}

// holdsCommits makes a commit in another database of the server, and reports whether it waits for
// the standby. It then ends that wait.
func (w *world) holdsCommits() (holds bool) {
	w.t.Helper()
	config := w.db.Config().Copy()
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(w.t.Context(), config)
	require.NoError(w.t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(w.t.Context(), "SET synchronous_commit = on")
	require.NoError(w.t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(w.t.Context(), `SELECT pg_logical_emit_message(true, 'probe', '')`)
		ended <- err
	}()
	eventually(w.t, func() bool {
		select {
		case err := <-ended:
			ended <- err
			return true
		default:
			holds = w.awaitsStandby(conn)
			return holds
		}
	}, "the commit ends, or waits for the standby")
	if holds {
		w.exec(fmt.Sprintf("SELECT pg_cancel_backend(%d)", conn.PgConn().PID()))
	}
	require.NoError(w.t, <-ended)
	return holds
}

// awaitsStandby reports whether a session's commit waits for a synchronous standby.
func (w *world) awaitsStandby(conn *pgx.Conn) bool {
	w.t.Helper()
	return w.count(`SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'`, conn.PgConn().PID()) == 1
}

// statements returns how many statements with a text the server has logged.
func (w *world) statements(text string) int {
	w.t.Helper()
	return strings.Count(w.serverLog(), text)
}

// serverLog returns what the server has logged.
func (w *world) serverLog() string {
	w.t.Helper()
	log, err := os.ReadFile(filepath.Join(w.server, "postgres.log"))
	require.NoError(w.t, err)
	return string(log)
}
