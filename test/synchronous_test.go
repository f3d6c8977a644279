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
			w.exec("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
			w.exec("SELECT pg_reload_conf()")
			var committed <-chan error
			if mode == "warn" {
				committed = w.commitSlowly("INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $1 FROM ai_providers", w.secret("sk-third-0123456789-abcdef"))
				w.exec("UPDATE ai_providers SET enabled = false")
			} else {
				committed = w.commitSlowly("UPDATE ai_providers SET enabled = $1", false)
			}
			w.expectAlerts("disabled proxy")
			w.exec("NOTIFY ai_providers_changed")
			// It asks more and more rarely: for about a second by then, while verifications
			// in a row would have failed within one.
			eventually(t, func() bool { return w.statements("pg_xact_status") >= 11 }, "the worker waits until it sees the commit")

			w.exec("ALTER SYSTEM RESET synchronous_standby_names")
			w.exec("SELECT pg_reload_conf()")
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
// and returns when the commit waits for it. The channel receives its error.
func (w *world) commitSlowly(statement string, args ...any) <-chan error {
	w.t.Helper()
	conn := w.connect()
	_, err := conn.Exec(w.t.Context(), "SET synchronous_commit = on")
	require.NoError(w.t, err)
	ended := make(chan error, 1)
	var group conc.WaitGroup
	w.t.Cleanup(group.Wait)
	w.t.Cleanup(func() {
		_, err := w.db.Exec(context.Background(), "ALTER SYSTEM RESET synchronous_standby_names")
		require.NoError(w.t, err)
		_, err = w.db.Exec(context.Background(), "SELECT pg_reload_conf()")
		require.NoError(w.t, err)
	})
	group.Go(func() {
		_, err := conn.Exec(w.t.Context(), statement, args...)
		ended <- err
	})
	waits := fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND wait_event = 'SyncRep'", conn.PgConn().PID())
	eventually(w.t, func() bool { return w.count(waits) == 1 }, "the commit waits for the standby")
	return ended
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
