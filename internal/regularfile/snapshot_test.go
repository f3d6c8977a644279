package regularfile

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSnapshot(t *testing.T) {
	write := func(t *testing.T, path, content string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	past := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		absent           bool // before
		change           func(t *testing.T, path string)
		touched, changed bool
	}{
		"Unchanged": {change: func(*testing.T, string) {}},
		"Absent":    {absent: true, change: func(*testing.T, string) {}},
		"Touched":   {change: func(t *testing.T, path string) { require.NoError(t, os.Chtimes(path, past, past)) }, touched: true},
		"WrittenTheSame": {change: func(t *testing.T, path string) {
			write(t, path, "one")
			require.NoError(t, os.Chtimes(path, past, past))
		}, touched: true},
		"Written": {change: func(t *testing.T, path string) { write(t, path, "another") }, touched: true, changed: true},
		"WrittenInThePast": {change: func(t *testing.T, path string) {
			write(t, path, "two")
			require.NoError(t, os.Chtimes(path, past, past))
		}, touched: true, changed: true},
		"Replaced": {change: func(t *testing.T, path string) {
			write(t, path+".new", "two")
			require.NoError(t, os.Rename(path+".new", path))
		}, touched: true, changed: true},
		"ReplacedByTheSame": {change: func(t *testing.T, path string) {
			write(t, path+".new", "one")
			require.NoError(t, os.Rename(path+".new", path))
		}, touched: true},
		"Removed":         {change: func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, touched: true, changed: true},
		"Made":            {absent: true, change: func(t *testing.T, path string) { write(t, path, "one") }, touched: true, changed: true},
		"OpenToWriters":   {change: func(t *testing.T, path string) { require.NoError(t, os.Chmod(path, 0o666)) }, touched: true, changed: true},
		"MadeADirectory":  {absent: true, change: func(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o700)) }, touched: true, changed: true},
		"OpenToReaders":   {change: func(t *testing.T, path string) { require.NoError(t, os.Chmod(path, 0o644)) }, touched: true},
		"LinkToAnother":   {change: link("two"), touched: true, changed: true},
		"LinkToTheSame":   {change: link("one"), touched: true},
		"LinkThatDangles": {change: link(""), touched: true, changed: true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if !c.absent {
				write(t, path, "one")
			}
			content, s, err := Snap(path, Limit)
			if c.absent {
				require.Error(t, err)
			} else {
				require.NoError(t, err)
				require.Equal(t, "one", string(content))
			}
			require.Equal(t, path, s.Path)
			c.change(t, path)
			require.Equal(t, c.touched, s.Touched(), "touched")
			require.Equal(t, c.changed, s.Changed(), "changed")
		})
	}
}

// link returns a change of a file into a link to a file with the content, empty for none.
func link(content string) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		t.Helper()
		if content != "" {
			require.NoError(t, os.WriteFile(path+".target", []byte(content), 0o600))
		}
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Symlink(path+".target", path))
	}
}
