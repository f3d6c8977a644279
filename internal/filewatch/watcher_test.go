package filewatch

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/require"

	"provwatch/internal/regularfile"
)

// fakeSource is a source whose events the test sends. One goroutine uses it at a time.
type fakeSource struct {
	watched map[string]bool
	events  chan fsnotify.Event
	errors  chan error
	closed  bool
	refused error // of each Add
}

func newFakeSource() *fakeSource {
	return &fakeSource{watched: map[string]bool{}, events: make(chan fsnotify.Event), errors: make(chan error, 1)}
}

func (s *fakeSource) Add(dir string) error {
	if s.refused == nil {
		s.watched[dir] = true
	}
	return s.refused
}
func (s *fakeSource) Remove(dir string) error { delete(s.watched, dir); return nil }
func (s *fakeSource) WatchList() []string     { return slices.Sorted(maps.Keys(s.watched)) }
func (s *fakeSource) Close() error            { s.closed = true; return nil }

func (s *fakeSource) open() (*source, error) {
	return &source{watches: s, events: s.events, errors: s.errors}, nil
}

// logLines are what a watcher logs.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// count returns how many lines hold all texts.
func (l *logLines) count(texts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

func (l *logLines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// environment is one of a watcher's in tests: some files and the requests for them.
type environment struct {
	t        *testing.T
	paths    []string
	files    *Files
	requests chan struct{}
}

func newEnvironment(t *testing.T, w *Watcher, logger *slog.Logger, paths ...string) *environment {
	e := &environment{t: t, paths: paths, requests: make(chan struct{}, 1)}
	e.files = w.Files(logger, e.requests)
	return e
}

// read reads the files, as a reload does.
func (e *environment) read() {
	var snapshots []regularfile.Snapshot
	for _, path := range e.paths {
		_, s, _ := regularfile.Snap(path, regularfile.Limit)
		snapshots = append(snapshots, s)
	}
	e.files.Read(snapshots)
}

func (e *environment) write(content string) {
	e.t.Helper()
	require.NoError(e.t, os.WriteFile(e.paths[0], []byte(content), 0o600))
}

// requested returns how many requests wait.
func (e *environment) requested() int { return len(e.requests) }

// bubble is a watcher with a fake source in a bubble of synctest.
type bubble struct {
	*Watcher
	source *fakeSource
	log    *logLines
	dir    string
}

func inBubble(t *testing.T, test func(t *testing.T, b *bubble)) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{source: newFakeSource(), log: &logLines{}, dir: dir}
		b.Watcher = New(b.log.logger())
		b.open = b.source.open
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.Run(ctx)
		}()
		test(t, b)
		cancel()
		<-ended
		require.True(t, b.source.closed || len(b.source.watched) == 0, "the source is closed")
	})
}

// happened sends the event of a path, and waits until it is handled.
func (b *bubble) happened(path string) {
	b.source.events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
	synctest.Wait()
}

// quietly lets the time pass.
func quietly(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestWatcher(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, b *bubble){
		"SettlesAfterTheLastEvent": testWatcherSettles, "OtherFiles": testWatcherOtherFiles, "SameContent": testWatcherSameContent,
		"ChangedBeforeTheWatch": testWatcherChangedBefore, "Environments": testWatcherEnvironments, "RequestOnItsWay": testWatcherRequestOnItsWay,
		"NoFiles": testWatcherNoFiles, "DirectoriesInUse": testWatcherDirectories, "NoInstances": testWatcherNoInstances, "NoWatches": testWatcherNoWatches,
		"Overflow": testWatcherOverflow, "BrokenSource": testWatcherBrokenSource,
	} {
		t.Run(name, func(t *testing.T) { inBubble(t, test) })
	}
}

func testWatcherSettles(t *testing.T, b *bubble) {
	env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "env"))
	env.write("0")
	env.read()
	quietly(settleFor)
	require.Equal(t, 1, b.log.count("have not changed"))

	env.write("1")
	for range 20 {
		b.happened(env.paths[0])
		quietly(settleFor - time.Millisecond)
	}
	require.Zero(t, env.requested(), "it still changes")
	require.Equal(t, 1, b.log.count("have not changed"))
	quietly(time.Millisecond)
	require.Equal(t, 1, env.requested())
	require.Equal(t, 1, b.log.count("level=INFO", "the files of the environment have changed", "files=["+env.paths[0]+"]"))
	<-env.requests
	env.read()
	quietly(time.Hour)
	require.Zero(t, env.requested())
}

func testWatcherOtherFiles(t *testing.T, b *bubble) {
	env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "env"))
	env.read()
	quietly(settleFor)
	env.write("1")
	b.happened(env.paths[0])
	quietly(settleFor / 2)
	b.happened(filepath.Join(b.dir, "another"))
	quietly(settleFor / 2)
	require.Equal(t, 1, env.requested(), "events of another file do not count")
}

func testWatcherSameContent(t *testing.T, b *bubble) {
	env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "env"))
	env.write("1")
	env.read()
	quietly(settleFor)
	env.write("1")
	b.happened(env.paths[0])
	quietly(settleFor)
	require.Zero(t, env.requested())
	// Of the same length and time.
	past := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(env.paths[0], past, past))
	env.read()
	quietly(settleFor)
	env.write("2")
	require.NoError(t, os.Chtimes(env.paths[0], past, past))
	b.happened(env.paths[0])
	quietly(settleFor)
	require.Equal(t, 1, env.requested())
}

func testWatcherChangedBefore(t *testing.T, b *bubble) {
	env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "env"))
	env.write("1")
	_, s, err := regularfile.Snap(env.paths[0], regularfile.Limit)
	require.NoError(t, err)
	env.write("2")
	env.files.Read([]regularfile.Snapshot{s})
	quietly(settleFor)
	require.Equal(t, 1, env.requested())
}

func testWatcherEnvironments(t *testing.T, b *bubble) {
	one := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "one"), filepath.Join(b.dir, "key"))
	two := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "two"), filepath.Join(b.dir, "key"))
	one.read()
	two.read()
	quietly(settleFor)
	one.write("1")
	b.happened(one.paths[0])
	quietly(settleFor / 2)
	two.write("1")
	b.happened(two.paths[0])
	quietly(settleFor / 2)
	require.Equal(t, []int{1, 0}, []int{one.requested(), two.requested()})
	quietly(settleFor / 2)
	require.Equal(t, []int{1, 1}, []int{one.requested(), two.requested()})
	<-one.requests
	<-two.requests
	one.read()
	two.read()
	quietly(settleFor)
	require.NoError(t, os.WriteFile(one.paths[1], []byte("shared"), 0o600))
	b.happened(one.paths[1])
	quietly(settleFor)
	require.Equal(t, []int{1, 1}, []int{one.requested(), two.requested()})
}

func testWatcherRequestOnItsWay(t *testing.T, b *bubble) {
	env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "env"))
	env.read()
	for _, content := range []string{"1", "2"} {
		env.write(content)
		b.happened(env.paths[0])
		quietly(settleFor)
		require.Equal(t, 1, env.requested(), "the watcher does not wait for it")
	}
}

func testWatcherNoFiles(t *testing.T, b *bubble) {
	b.open = func() (*source, error) { panic("there is nothing to watch") }
	env := newEnvironment(t, b.Watcher, b.logger)
	env.read()
	quietly(time.Hour)
	require.Zero(t, b.log.count("level="), "nothing is compared")
}

func testWatcherDirectories(t *testing.T, b *bubble) {
	for _, dir := range []string{"a", "b"} {
		require.NoError(t, os.Mkdir(filepath.Join(b.dir, dir), 0o700))
	}
	env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "a", "env"))
	other := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "a", "other"), filepath.Join(b.dir, "b", "key"))
	env.read()
	other.read()
	synctest.Wait()
	require.Equal(t, []string{filepath.Join(b.dir, "a"), filepath.Join(b.dir, "b")}, b.source.WatchList())
	// Another environment names other files.
	other.paths = nil
	other.read()
	synctest.Wait()
	require.Equal(t, []string{filepath.Join(b.dir, "a")}, b.source.WatchList())
	// The directory vanishes, and comes back.
	require.NoError(t, os.Remove(filepath.Join(b.dir, "a")))
	delete(b.source.watched, filepath.Join(b.dir, "a"))
	b.happened(filepath.Join(b.dir, "a"))
	require.Equal(t, []string{b.dir}, b.source.WatchList())
	require.NoError(t, os.Mkdir(filepath.Join(b.dir, "a"), 0o700))
	b.happened(filepath.Join(b.dir, "a"))
	require.Equal(t, []string{filepath.Join(b.dir, "a")}, b.source.WatchList())
	quietly(settleFor)
	require.Zero(t, env.requested(), "the file was absent, and is")
}

func testWatcherNoInstances(t *testing.T, b *bubble) {
	works := b.open
	b.open = func() (*source, error) { return nil, syscall.EMFILE }
	env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "env"))
	for range 3 {
		env.read()
		quietly(settleFor)
	}
	require.Equal(t, 1, b.log.count("level=WARN"))
	require.Equal(t, 1, b.log.count("level=WARN", "cannot watch the files of the environment, which SIGHUP alone reloads", "too many open files", "fs.inotify.max_user_instances"))
	b.open = works
	env.read() // at SIGHUP
	quietly(settleFor)
	env.write("1")
	b.happened(env.paths[0])
	quietly(settleFor)
	require.Equal(t, 1, env.requested())
	require.Equal(t, 1, b.log.count("level=WARN"))
}

func testWatcherNoWatches(t *testing.T, b *bubble) {
	for err, remedy := range map[error]string{syscall.ENOSPC: "fs.inotify.max_user_watches", syscall.EACCES: "let the user of the worker read the directory"} {
		b.source.refused = err
		env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "env"))
		env.read()
		quietly(settleFor)
		env.read()
		quietly(settleFor)
		require.Equal(t, 1, b.log.count("level=WARN", "watch "+b.dir, remedy))
		// It is reported again after it worked.
		b.source.refused = nil
		env.read()
		quietly(settleFor)
		b.source.refused, b.source.watched = err, map[string]bool{}
		env.read()
		quietly(settleFor)
		require.Equal(t, 2, b.log.count("level=WARN", "watch "+b.dir, remedy))
	}
}

func testWatcherOverflow(t *testing.T, b *bubble) {
	env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "env"))
	env.read()
	quietly(settleFor)
	env.write("1") // whose event is lost
	b.source.errors <- fsnotify.ErrEventOverflow
	quietly(settleFor)
	require.Equal(t, 1, env.requested())
}

func testWatcherBrokenSource(t *testing.T, b *bubble) {
	env := newEnvironment(t, b.Watcher, b.logger, filepath.Join(b.dir, "env"))
	env.read()
	quietly(settleFor)
	b.source.errors <- syscall.EBADF
	synctest.Wait()
	require.True(t, b.source.closed)
	require.Equal(t, 1, b.log.count("level=WARN", "bad file descriptor", "send SIGHUP after each change"))
	b.source.closed = false
	env.read()
	synctest.Wait()
	require.Equal(t, []string{b.dir}, b.source.WatchList())
}
