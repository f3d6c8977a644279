package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/regularfile"
	"provwatch/internal/rollout"
	"provwatch/internal/waittest"
)

// TestFiles has a file that is not what is loaded, and is loaded, until the worker ends.
func TestFiles(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	path := filepath.Join(t.TempDir(), "\xffkey")
	h := &health{}
	var log bytes.Buffer
	f := newFiles(rollout.NewMember(uuid.New(), time.Hour, rollout.Observes), pool, h, slog.New(slog.NewTextHandler(&log, nil)))
	f.forgets = 20 * time.Millisecond
	write := func(content string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	load := func() {
		_, s, err := regularfile.Snap(path, regularfile.Limit)
		require.NoError(t, err)
		h.setLoaded([]regularfile.Snapshot{s})
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	recorded := func() (paths []string) {
		t.Helper()
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce(array_agg(concat_ws(' ', worker, paths)), '{}') FROM provwatch.not_loaded`).Scan(&paths))
		return paths
	}
	own := []string{f.member.ID().String() + " {" + filepath.Dir(path) + "/\uFFFDkey}"}
	write("1")
	load()

	// A record that fails is logged once, and retried.
	write("two")
	exec(`ALTER TABLE provwatch.not_loaded RENAME TO gone`)
	for range 2 {
		require.LessOrEqual(t, f.look(t.Context()), filesRetry)
	}
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("could not record which files are not loaded")))
	exec(`ALTER TABLE provwatch.gone RENAME TO not_loaded`)

	leave := func(ages ...string) {
		exec(`INSERT INTO provwatch.not_loaded (worker, paths, seen_at) SELECT gen_random_uuid(), '{}', now() - age::interval FROM unnest($1::text[]) AS age`, ages)
	}
	leave("25 hours")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { f.run(ctx); close(ended) }()
	are := func(paths []string) func() bool {
		return func() bool { return len(recorded()) == len(paths) && (len(paths) == 0 || recorded()[0] == paths[0]) }
	}
	waittest.Until(t, are(own), "it is recorded, and the former worker's is forgotten")
	leave("25 hours")
	waittest.Until(t, are(own), "it goes on forgetting")
	load()
	f.wake()
	f.wake()
	waittest.Until(t, are(nil), "the file is loaded")
	write("3")
	f.wake()
	waittest.Until(t, are(own), "it is another one again")
	cancel()
	waittest.Closed(t, ended, "it ends")
	require.Empty(t, recorded())
}
