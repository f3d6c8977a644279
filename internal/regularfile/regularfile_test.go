package regularfile

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadFile(t *testing.T) {
	t.Run("NotRegular", testReadFileNotRegular)
	t.Run("PipeByDescriptor", testReadFilePipeByDescriptor)
	t.Run("TooLarge", testReadFileTooLarge)
	t.Run("SymbolicLink", testReadFileSymbolicLink)
}

func testReadFileNotRegular(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, syscall.Mkfifo(at("fifo"), 0o600))
	require.NoError(t, os.Symlink(at("fifo"), at("link-to-fifo")))
	socket, err := net.Listen("unix", at("socket"))
	require.NoError(t, err)
	defer func() { _ = socket.Close() }()

	for path, want := range map[string]string{
		dir:                "open " + dir + ": it is a directory, not a regular file",
		at("fifo"):         "open " + at("fifo") + ": it is a pipe, not a regular file",
		at("link-to-fifo"): "open " + at("link-to-fifo") + ": it is a pipe, not a regular file",
		at("socket"):       "open " + at("socket") + ": it is a socket, not a regular file",
		"/dev/zero":        "open /dev/zero: it is a device, not a regular file",
		"/dev/null":        "open /dev/null: it is a device, not a regular file",
	} {
		_, err := Read(path, Limit)
		require.EqualError(t, err, want)
		var typed *TypeError
		require.ErrorAs(t, err, &typed)
	}

	_, err = Read(at("none"), Limit)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "open "+at("none")+": no such file or directory")
}

func testReadFilePipeByDescriptor(t *testing.T) {
	// As of a shell's process substitution, and of /dev/stdin behind a pipe.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _, _ = r.Close(), w.Close() }()
	_, err = Read(filepath.Join("/dev/fd", strconv.Itoa(int(r.Fd()))), Limit)
	require.ErrorContains(t, err, "it is a pipe, not a regular file")
}

func testReadFileTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write := func(size int) {
		require.NoError(t, os.WriteFile(path, make([]byte, size), 0o600))
	}
	write(Limit)
	content, err := Read(path, Limit)
	require.NoError(t, err)
	require.Len(t, content, Limit)

	write(Limit + 1)
	_, err = Read(path, Limit)
	require.EqualError(t, err, "read "+path+": it is larger than 1.0 MiB")

	// Nothing is read of a larger file, however large.
	require.NoError(t, os.Truncate(path, 1<<40))
	_, err = Read(path, 10*Limit)
	require.EqualError(t, err, "read "+path+": it is larger than 10 MiB")

	// Its size is said to be 0.
	_, err = Read("/proc/self/maps", 1)
	require.EqualError(t, err, "read /proc/self/maps: it is larger than 1 B")
}

func testReadFileSymbolicLink(t *testing.T) {
	// Kubernetes mounts a secret's file as a link to one of a folder, itself a link.
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "..2026"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "..2026", "key"), []byte("content"), 0o600))
	require.NoError(t, os.Symlink("..2026", filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink("..data/key", filepath.Join(dir, "key")))
	content, err := Read(filepath.Join(dir, "key"), Limit)
	require.NoError(t, err)
	require.Equal(t, "content", string(content))
}
