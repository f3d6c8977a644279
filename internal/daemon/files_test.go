package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/regularfile"
	"provwatch/internal/rollout"
	"provwatch/internal/waittest"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	t.Run("Recorded", testFilesRecorded)
	t.Run("Hang", testFilesHang)
}

// endsInTime is a deadline that no test waits for.
func endsInTime() time.Time { return time.Now().Add(waittest.Patience) }

// testFilesHang has a file system that ceases to answer. Former workers are forgotten then too,
// and the run ends.
func testFilesHang(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	f := newFiles(rollout.NewMember(uuid.New(), time.Hour, rollout.Observes), pool, &health{}, slog.New(slog.DiscardHandler), endsInTime)
	f.forgets = 20 * time.Millisecond
	count := func(where string) (n int) {
		t.Helper()
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM provwatch.not_loaded WHERE `+where).Scan(&n))
		return n
	}
	reads, answer := make(chan struct{}, 3), make(chan []string)
	f.notLoaded = func() []string {
		reads <- struct{}{}
		return <-answer
	}
	t.Cleanup(func() { close(answer) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { f.run(ctx); close(ended) }()
	waittest.Receive(t, reads, "it looks")
	f.wake()
	answer <- []string{"/etc/a.env"}
	waittest.Receive(t, reads, "it looks again, woken while it looked")
	require.Equal(t, 1, count(`paths = '{/etc/a.env}'`))
	f.wake()
	_, err := pool.Exec(t.Context(), `INSERT INTO provwatch.not_loaded (worker, paths, seen_at) VALUES (gen_random_uuid(), '{/gone}', now() - interval '25 hours')`)
	require.NoError(t, err)
	waittest.Until(t, func() bool { return count(`paths = '{/gone}'`) == 0 }, "it forgets, though the file system does not answer")
	require.Empty(t, reads, "one reader at a time")
	cancel()
	waittest.Closed(t, ended, "it ends, though the file system does not answer")
	require.Zero(t, count("true"))
}

// testFilesRecorded has a file that is not what is loaded, and is loaded, until the worker ends.
func testFilesRecorded(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	path := filepath.Join(t.TempDir(), "\xffkey")
	h := &health{}
	var log bytes.Buffer
	f := newFiles(rollout.NewMember(uuid.New(), time.Hour, rollout.Observes), pool, h, slog.New(slog.NewTextHandler(&log, nil)), endsInTime)
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
		require.LessOrEqual(t, f.show(t.Context(), f.notLoaded()), filesRetry)
	}
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("could not record which files are not loaded")))
	exec(`ALTER TABLE provwatch.gone RENAME TO not_loaded`)
	require.Equal(t, filesInterval, f.show(t.Context(), f.notLoaded()), "though the window of --rollback-after is far longer")
	require.Equal(t, 30*time.Second, filesInterval)

	leave := func(ages ...string) {
		exec(`INSERT INTO provwatch.not_loaded (worker, paths, seen_at) SELECT gen_random_uuid(), '{}', now() - age::interval FROM unnest($1::text[]) AS age`, ages)
	}
	leave("25 hours")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { f.run(ctx); close(ended) }()
	are := func(paths []string) func() bool {
		return func() bool { return slices.Equal(recorded(), paths) }
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
