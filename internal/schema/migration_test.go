//go:build e2e

package schema_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/schema"
)

// TestMigrationLock has a transaction of a writer that stays open, and triggers and a
// publication that are missing. A migration that gives up names the session that holds the
// lock.
func TestMigrationLock(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		needs schema.Needs
		lock  string
	}{
		"create the triggers":    {schema.Needs{Triggers: true}, "ROW EXCLUSIVE"},
		"create the publication": {schema.Needs{Publication: true}, "SHARE UPDATE EXCLUSIVE"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			url := pgtest.NewDatabase(t)
			config, err := postgres.ParseURL(url)
			require.NoError(t, err)
			_, _, err = schema.Migrate(t.Context(), config.ConnConfig, schema.Needs{})
			require.NoError(t, err)
			writer, err := pgx.Connect(t.Context(), url)
			require.NoError(t, err)
			tx, err := writer.Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), "LOCK TABLE public.ai_providers IN "+c.lock+" MODE")
			require.NoError(t, err)

			err = schema.MigrateWithin(t.Context(), config.ConnConfig, c.needs, time.Second, 2*time.Second)
			var unusable *schema.UnusableError
			require.ErrorAs(t, err, &unusable)
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, pgerrcode.LockNotAvailable, refused.Code)
			pid := writer.PgConn().PID()
			require.Regexp(t, fmt.Sprintf(`cannot %s .*: it waits for session %d \(role "provwatch".*\); SELECT pg_terminate_backend\(%d\) ends it: `, what, pid, pid), err)

			require.NoError(t, tx.Rollback(t.Context()))
			require.NoError(t, schema.MigrateWithin(t.Context(), config.ConnConfig, c.needs, time.Second, time.Minute))
			require.NoError(t, writer.Close(t.Context()))
		})
	}
}
