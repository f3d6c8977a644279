package regularfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	othersRead    = 0o004
	othersWrite   = 0o002
	othersExecute = 0o001
)

// WritableError says that others than a file's owner and group may write to it, and so
// decide what the worker does.
type WritableError struct {
	Path string
	Mode fs.FileMode
}

func (e *WritableError) Error() string {
	return fmt.Sprintf("others may write to it (mode %04o); run: chmod o-w %s", e.Mode.Perm(), e.Path)
}

// ReadGuarded is [Read] of a file that the worker relies on, such as one of secrets or
// of certificates. The cause of its error is also a [*WritableError].
func ReadGuarded(path string, limit int64) ([]byte, error) {
	content, info, err := ReadInfo(path, limit)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&othersWrite != 0 {
		clear(content)
		return nil, &fs.PathError{Op: "read", Path: path, Err: &WritableError{path, info.Mode()}}
	}
	return content, nil
}

// ReadableByOthers reports whether any user of the machine can read the file at path:
// its mode lets them, and so does each folder above it. A volume of Kubernetes counts
// as closed, since only its pod has it and its files are mode 0644 unless they are asked
// for otherwise. In doubt it reports false.
func ReadableByOthers(path string) bool {
	if _, err := os.Lstat(filepath.Join(filepath.Dir(path), "..data")); err == nil {
		return false
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		resolved, err = filepath.Abs(resolved)
	}
	if err != nil {
		return false
	}
	for want := fs.FileMode(othersRead); ; want = othersExecute {
		info, err := os.Stat(resolved)
		if err != nil || info.Mode().Perm()&want == 0 {
			return false
		}
		parent := filepath.Dir(resolved)
		if parent == resolved {
			return true
		}
		resolved = parent
	}
}
