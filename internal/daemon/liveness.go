package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// listenerLimit is how long the listener can take to come round. All its waits
	// together are bounded by less than half of this, with the database away as well.
	listenerLimit = 2 * time.Minute
	// verifyLimit is how long a verification that is due can take to end, with or without
	// success. One is bounded to two minutes, and the wait after a failed one to less; a
	// connection whose peer has vanished fails within a quarter of an hour.
	verifyLimit = 30 * time.Minute
)

// liveness knows whether the goroutines of one run make progress. What they wait for in the
// database is a matter of [health]: a restart does not help. Its zero value is that of a
// worker that is still booting, which is alive. Its methods may be called by several
// goroutines.
type liveness struct {
	mu       sync.Mutex
	ended    string    // a goroutine that ended though the worker goes on
	listened time.Time // when the listener last came round; zero before it runs
	takers   int       // goroutines that verify now
	taking   time.Time // since when the last of them does
	asked    time.Time // since when a verification is due and none has ended; zero for none
}

// recordEnd records that a goroutine has ended, unless ctx has. The goroutine defers it: it
// records a panic too, which a group keeps until all others have ended.
func (l *liveness) recordEnd(ctx context.Context, name string) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = name
}

// cameRound records that the listener makes progress.
func (l *liveness) cameRound() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listened = time.Now()
}

// take records that the caller verifies from now on, until it calls done.
func (l *liveness) take() (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takers++
	l.taking = time.Now()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.takers--
	}
}

// ask records that a verification is due.
func (l *liveness) ask() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked.IsZero() {
		l.asked = time.Now()
	}
}

// verified records that a verification has ended.
func (l *liveness) verified() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = time.Time{}
}

// check returns why the worker is not alive at the moment now.
func (l *liveness) check(now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != "" {
		return fmt.Errorf("the %s has ended", l.ended)
	}
	if quiet := now.Sub(l.listened); !l.listened.IsZero() && quiet > listenerLimit {
		return fmt.Errorf("the listener has not come round for %s", quiet.Round(time.Second))
	}
	since := l.taking
	if l.asked.After(since) {
		since = l.asked
	}
	if waited := now.Sub(since); l.takers > 0 && !l.asked.IsZero() && waited > verifyLimit {
		return fmt.Errorf("no verification has ended for %s", waited.Round(time.Second))
	}
	return nil
}
