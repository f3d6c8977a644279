package filewatch

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"provwatch/internal/waittest"
)

// TestSystem changes files for real, after the watcher has found nothing changed. So each
// change is found by its events.
func TestSystem(t *testing.T) {
	for name, c := range map[string]struct {
		made   []string // see [makeEntry]
		path   string
		change func(t *testing.T, at func(string) string)
	}{
		"Written": {made: []string{"env"}, path: "env", change: func(t *testing.T, at func(string) string) { write(t, at("env")) }},
		"Renamed": {made: []string{"env"}, path: "env", change: func(t *testing.T, at func(string) string) {
			write(t, at("env.new"))
			rename(t, at("env.new"), at("env"))
		}},
		"Removed":    {made: []string{"env"}, path: "env", change: func(t *testing.T, at func(string) string) { require.NoError(t, os.Remove(at("env"))) }},
		"Made":       {path: "env", change: func(t *testing.T, at func(string) string) { write(t, at("env")) }},
		"ModeOpened": {made: []string{"env"}, path: "env", change: func(t *testing.T, at func(string) string) { require.NoError(t, os.Chmod(at("env"), 0o666)) }},
		"KubernetesSwap": {made: []string{"v/", "v/..1/", "v/..1/env", "v/..data -> ..1", "v/env -> ..data/env"}, path: "v/env", change: func(t *testing.T, at func(string) string) {
			require.NoError(t, os.Mkdir(at("v/..2"), 0o700))
			write(t, at("v/..2/env"))
			require.NoError(t, os.Symlink("..2", at("v/..data_tmp")))
			rename(t, at("v/..data_tmp"), at("v/..data"))
			require.NoError(t, os.RemoveAll(at("v/..1")))
		}},
		"LinkedFileWritten": {made: []string{"d/", "d/env", "env -> d/env"}, path: "env", change: func(t *testing.T, at func(string) string) { write(t, at("d/env")) }},
		"LinkedDirectorySwapped": {made: []string{"1/", "1/env", "2/", "current -> 1"}, path: "current/env", change: func(t *testing.T, at func(string) string) {
			write(t, at("2/env"))
			require.NoError(t, os.Symlink("2", at("next")))
			rename(t, at("next"), at("current"))
		}},
		"DirectoryMade": {path: "a/b/env", change: func(t *testing.T, at func(string) string) {
			require.NoError(t, os.MkdirAll(at("a/b"), 0o700))
			write(t, at("a/b/env"))
		}},
		"DirectoryMadeAgain": {made: []string{"a/", "a/env"}, path: "a/env", change: func(t *testing.T, at func(string) string) {
			require.NoError(t, os.RemoveAll(at("a")))
			require.NoError(t, os.Mkdir(at("a"), 0o700))
			write(t, at("a/env"))
		}},
		"DirectoryReplaced": {made: []string{"a/", "a/env", "b/"}, path: "a/env", change: func(t *testing.T, at func(string) string) {
			write(t, at("b/env"))
			rename(t, at("a"), at("c"))
			rename(t, at("b"), at("a"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for _, entry := range c.made {
				makeEntry(t, root, entry)
			}
			at := func(name string) string { return filepath.Join(root, name) }
			var log logLines
			w := New(log.logger())
			w.settleFor = settleFor / 20
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				w.Run(ctx)
			}()
			env := newEnvironment(t, w, w.logger, at(c.path))
			env.read()
			waittest.Until(t, func() bool { return log.count("have not changed") >= 1 }, "the files are watched: %s", waittest.Lazy(func() any { return log.text.String() }))
			c.change(t, at)
			waittest.Receive(t, env.requests, "the change is noticed")
			// And the next one.
			watched := log.count("have not changed")
			env.read()
			waittest.Until(t, func() bool { return log.count("have not changed") > watched }, "the files are watched again")
			if _, err := os.Stat(at(c.path)); err == nil {
				require.NoError(t, os.Remove(at(c.path)))
			} else {
				write(t, at(c.path))
			}
			waittest.Receive(t, env.requests, "the next change is noticed")
			cancel()
			<-ended
			require.Zero(t, log.count("level=WARN"))
		})
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte("changed"), 0o600))
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.Rename(from, to))
}
