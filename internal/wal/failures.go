package wal

import "time"

// failures are the failed attempts of a reader in a row. The reader's goroutine touches it
// between two streams, and the handler's during one.
type failures struct {
	since  time.Time // since when attempts fail for other reasons than connecting
	inARow bool      // the last attempt failed, and nothing was handled or verified since
}

// progress records that something was handled or verified.
func (f *failures) progress() { *f = failures{} }

// forgive forgets since when attempts fail.
func (f *failures) forgive() { f.since = time.Time{} }

// lastFor records a failure, and reports whether attempts have failed for longer than that.
func (f *failures) lastFor(d time.Duration) bool {
	if f.since.IsZero() {
		f.since = time.Now()
		return false
	}
	return time.Since(f.since) > d
}

// next records the end of a failed attempt, and reports whether it is the first in a row.
func (f *failures) next() (first bool) {
	first, f.inARow = !f.inARow, true
	return first
}
