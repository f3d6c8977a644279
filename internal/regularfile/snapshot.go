package regularfile

import (
	"hash/maphash"
	"io/fs"
	"os"
)

// Snapshot is the state of a file when it was read, or when it could not be read. By it a
// program that keeps what it read finds out whether the file is another one by now. It holds
// nothing of the content.
type Snapshot struct {
	Path string

	info fs.FileInfo // nil where the path led to nothing
	read bool
	hash uint64 // of the content, keyed; of the error, where it could not be read
}

// seed is the key of the hashes of this process.
var seed = maphash.MakeSeed()

// Snap is [ReadGuarded], and returns a snapshot of the file, also with an error.
func Snap(path string, limit int64) (content []byte, s Snapshot, err error) {
	s.Path = path
	// Before the file is read: a change while it is read then makes a difference later.
	s.info, _ = os.Stat(path)
	content, err = ReadGuarded(path, limit)
	if s.read = err == nil; s.read {
		s.hash = maphash.Bytes(seed, content)
	} else {
		s.hash = maphash.String(seed, err.Error())
	}
	return content, s, err
}

// Touched reports whether the path leads to another file by now, or the file was written or
// given another mode. The content may be the same. Touched does not read the file, and can
// miss a change that leaves size and time.
func (s Snapshot) Touched() bool {
	now, _ := os.Stat(s.Path)
	if now == nil || s.info == nil {
		return (now == nil) != (s.info == nil)
	}
	return !os.SameFile(s.info, now) || !s.info.ModTime().Equal(now.ModTime()) || s.info.Size() != now.Size() || s.info.Mode() != now.Mode()
}

// Changed reads the file, and reports whether that gives another content or another error
// by now.
func (s Snapshot) Changed() bool {
	content, now, _ := Snap(s.Path, Limit)
	clear(content)
	return s.read != now.read || s.hash != now.hash
}
