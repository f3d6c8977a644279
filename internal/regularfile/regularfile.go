// Package regularfile reads files that an operator names: environment files,
// tokens, encryption keys, certificates. What cannot be read to an end, or not at once, is
// refused: a pipe, a device, a folder, a socket, and a file larger than its kind.
package regularfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/dustin/go-humanize"
)

// Limit is the largest size of a file in bytes, other than that of --config.
const Limit = 1 << 20

// TypeError says that a path leads to something other than a regular file.
type TypeError struct{ Mode fs.FileMode }

func (e *TypeError) Error() string {
	return "it is " + typeName(e.Mode) + ", not a regular file"
}

// SizeError says that a file is larger than Limit bytes.
type SizeError struct{ Limit int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("it is larger than %s", humanize.IBytes(uint64(max(e.Limit, 0))))
}

// Read returns the content of the regular file at path, or at the end of the
// symbolic links there, of at most limit bytes. It never waits for a writer. The
// error is an [*fs.PathError] with the path as it is [Shown], and holds nothing of the
// content; its cause is a [*TypeError], a [*SizeError], or what the system says.
func Read(path string, limit int64) ([]byte, error) {
	content, _, err := ReadInfo(path, limit)
	return content, err
}

// ReadInfo is [Read] for a caller that judges the file's mode or owner as well: info
// is that of the file that was read.
func ReadInfo(path string, limit int64) (content []byte, info fs.FileInfo, err error) {
	file, info, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = file.Close() }()
	if info.Size() > limit {
		return nil, nil, &fs.PathError{Op: "read", Path: path, Err: &SizeError{limit}}
	}
	// The size of a file in /proc is 0, and another may grow.
	content, err = io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, nil, &fs.PathError{Op: "read", Path: path, Err: Cause(err)}
	}
	if int64(len(content)) > limit {
		clear(content)
		return nil, nil, &fs.PathError{Op: "read", Path: path, Err: &SizeError{limit}}
	}
	return content, info, nil
}

// Open opens a regular file for reading, and returns it with its type, mode and
// size at that time. Errors are as those of [Read].
func Open(path string) (*os.File, fs.FileInfo, error) {
	// Looked at before opening, which can do something to a device, and after it, since
	// the path may lead elsewhere by then.
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = &TypeError{info.Mode()}
	}
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: Shown(path), Err: Cause(err)}
	}
	// Opening a pipe to read it would otherwise wait for a writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: Cause(err)}
	}
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = &TypeError{info.Mode()}
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: Cause(err)}
	}
	return file, info, nil
}

// Cause returns an error of a file without the operation and the path, for a
// message that names the file already.
func Cause(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return failed.Err
	}
	return err
}

func typeName(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	case mode.IsRegular():
		return "a regular file"
	default:
		return "a special file"
	}
}
