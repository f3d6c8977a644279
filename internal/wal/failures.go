package wal

import (
	"log/slog"
	"time"

	"provwatch/internal/retry"
)

// patience is how long attempts may fail before another source must be used.
const patience = 20 * time.Second

// failures paces the attempts of a reader. The reader's goroutine touches it between two
// streams, and the handler's during one.
type failures struct {
	backOff *retry.Backoff
	since   time.Time  // since when attempts fail for other reasons than connecting
	level   slog.Level // of the log of the next failure
}

func newFailures(maxBackOff time.Duration) *failures {
	return &failures{
		backOff: retry.Policy{First: 50 * time.Millisecond, Max: maxBackOff}.Backoff(),
		level:   slog.LevelWarn,
	}
}

// progress records that something was handled or verified.
func (f *failures) progress() {
	f.backOff.Reset()
	f.level = slog.LevelWarn
	f.since = time.Time{}
}

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

// next returns the wait until the next attempt, and the level at which the failure is
// logged. Only the first failure in a row is a warning.
func (f *failures) next() (time.Duration, slog.Level) {
	level := f.level
	f.level = slog.LevelInfo
	return f.backOff.Next(), level
}
