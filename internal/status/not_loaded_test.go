package status_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/rollout"
	"provwatch/internal/status"
	"provwatch/internal/store"
)

// TestNotLoaded has workers whose files are not loaded, one of which was last seen long ago, though
// within --rollback-after. It
// collects them as a reader, without the privilege, and without the table.
func TestNotLoaded(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	reader := asReader(t, pool)
	record := func(paths ...string) string {
		t.Helper()
		worker := uuid.New()
		require.NoError(t, store.On(pool).RecordNotLoaded(t.Context(), worker, paths))
		return worker.String()
	}
	exec := func(sql string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	query := every
	collect := func() []status.NotLoaded {
		t.Helper()
		s, err := status.Collect(t.Context(), reader, noKeys, status.Environment{}, query)
		require.NoError(t, err)
		return s.Database.NotLoaded
	}
	record("/gone")
	exec(`UPDATE provwatch.not_loaded SET seen_at = now() - interval '1 hour'`)
	query.RollbackAfter = 24 * time.Hour
	require.Empty(t, collect())
	query.RollbackAfter = rollout.MinWindow
	first, second := record("/etc/a.env"), record("/etc/b.env", "/run/key\x1b")
	exec(`UPDATE provwatch.not_loaded SET seen_at = now() - interval '1 minute' WHERE seen_at > now() - interval '1 minute'`)
	found := collect()
	require.Len(t, found, 2)
	require.Equal(t, []string{first, second}, []string{found[0].Worker, found[1].Worker})
	require.WithinDuration(t, time.Now(), found[0].Since, status.FilesWindow)
	require.Equal(t, []string{"/etc/b.env", "/run/key\x1b"}, found[1].Files)
	require.Equal(t, `"/etc/a.env" on disk is not what worker `+first+` of role `+strconv.Quote(found[0].Role)+" has loaded, since "+found[0].Since.Format(time.RFC3339), found[0].Label(strconv.Quote))
	require.Contains(t, found[1].Label(strconv.Quote), `"/etc/b.env" and "/run/key\x1b" on disk are not what worker `)
	exec(`REVOKE SELECT ON provwatch.not_loaded FROM provwatch_reader`)
	require.Empty(t, collect())
	exec(`DROP TABLE provwatch.not_loaded`)
	require.Empty(t, collect())
}
