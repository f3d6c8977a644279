//go:build e2e

package test

import (
	"testing"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// TestFullQueue fills the queue for real,
// which takes 8 GB where its size cannot be set. The server lets it stay full
// when nobody keeps it any longer; the worker does not.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	w := &world{t: t, url: cluster.NewDatabase(t)}
	if w.connect().QueryRow(t.Context(), "SELECT true FROM pg_settings WHERE name = 'max_notify_queue_pages'").Scan(new(bool)) != nil {
		t.Skip("the queue's size cannot be set before PostgreSQL 17")
	}
	_, err := w.connect().Exec(t.Context(), "ALTER SYSTEM SET max_notify_queue_pages = 64")
	require.NoError(t, err)
	cluster.Restart(t, "fast")
	w.prepare()
	w.db = w.connect()
	p := w.start(w.twoProviders(), "run", "--source=wal").ready()

	holder := w.connect()
	for _, statement := range []string{"LISTEN held", "BEGIN", "SELECT 1"} {
		_, err = holder.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	var refused *pgconn.PgError
	for range 100 {
		if _, err = w.db.Exec(t.Context(), "SELECT pg_notify('held', n || repeat('x', 800)) FROM generate_series(1, 50) n"); err != nil {
			break
		}
	}
	require.ErrorAs(t, err, &refused)
	require.Equal(t, pgerrcode.ProgramLimitExceeded, refused.Code)

	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	p.waitFor("level=ERROR", "queue of notifications is full", "pg_stat_activity")
	require.Empty(t, w.alerts())
	require.NoError(t, holder.Close(t.Context()))
	eventually(t, func() bool { return len(w.alerts()) == 1 }, "the alert is published")
	require.Equal(t, []string{"disabled openai"}, w.alerts())
	w.exec("NOTIFY held")
	p.stop()
}
