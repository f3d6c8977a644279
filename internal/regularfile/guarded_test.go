package regularfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadGuarded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte("content"), 0o600))
	for mode, allowed := range map[os.FileMode]bool{
		0o400: true, 0o600: true, 0o640: true, 0o644: true, 0o444: true, 0o664: true, // 0664: the umask of many distributions
		0o666: false, 0o602: false, 0o777: false, 0o646: false,
	} {
		require.NoError(t, os.Chmod(path, mode))
		content, err := ReadGuarded(path, Limit)
		if allowed {
			require.NoError(t, err, "%04o", mode)
			require.Equal(t, "content", string(content))
			continue
		}
		require.Nil(t, content)
		var writable *WritableError
		require.ErrorAs(t, err, &writable, "%04o", mode)
		require.ErrorContains(t, err, "run: chmod o-w "+path)
	}
	// The mode of a link says nothing.
	require.NoError(t, os.Chmod(path, 0o600))
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(path, link))
	_, err := ReadGuarded(link, Limit)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o666))
	_, err = ReadGuarded(link, Limit)
	require.ErrorContains(t, err, "others may write to it")
}

func TestReadableByOthers(t *testing.T) {
	// Not t.TempDir, of which not every folder is open to others.
	root, err := os.MkdirTemp("", "provwatch-readable-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	dir := filepath.Join(root, "dir")
	require.NoError(t, os.Mkdir(dir, 0o755))
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	for _, c := range []struct {
		root, dir, file os.FileMode
		readable        bool
	}{
		{0o755, 0o755, 0o644, true},
		{0o711, 0o755, 0o604, true},
		{0o755, 0o755, 0o640, false},
		{0o755, 0o750, 0o644, false},
		{0o700, 0o755, 0o644, false},
	} {
		require.NoError(t, os.Chmod(path, c.file))
		require.NoError(t, os.Chmod(dir, c.dir))
		require.NoError(t, os.Chmod(root, c.root))
		require.Equal(t, c.readable, ReadableByOthers(path), "%v", c)
		require.NoError(t, os.Chmod(root, 0o755))
	}
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, os.Symlink(path, filepath.Join(root, "link")))
	require.True(t, ReadableByOthers(filepath.Join(root, "link")))
	require.False(t, ReadableByOthers(filepath.Join(root, "none")))

	// As Kubernetes mounts a Secret.
	require.NoError(t, os.Mkdir(filepath.Join(root, "..2026"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "..2026", "token"), nil, 0o644))
	require.NoError(t, os.Symlink("..2026", filepath.Join(root, "..data")))
	require.NoError(t, os.Symlink("..data/token", filepath.Join(root, "token")))
	require.False(t, ReadableByOthers(filepath.Join(root, "token")))
}
