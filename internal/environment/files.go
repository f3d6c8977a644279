package environment

import "provwatch/internal/regularfile"

// files reads the files of one environment, and records them. One goroutine uses it, for
// one call of [Read] or [Parse].
type files struct{ list []regularfile.Snapshot }

// read reads a file and records it, also where it cannot be read.
func (f *files) read(path string) ([]byte, error) {
	content, snapshot, err := regularfile.Snap(path, regularfile.Limit)
	f.list = append(f.list, snapshot)
	return content, err
}

// record records a file that the caller reads next.
func (f *files) record(path string) {
	content, _ := f.read(path)
	clear(content)
}
