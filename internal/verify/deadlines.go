package verify

import (
	"context"
	"sync/atomic"
	"time"
)

// deadlines is what a leader knows of recorded things that it must deal with at a time. Such are
// drifts whose latest alert is silenced, until they have outlived their silences. Such are pending
// drifts, until they have lasted, and acceptances, until they end.
//
// [Verifier.TakeOver] and whatever announces records write it, on any goroutine.
type deadlines struct {
	// changed holds a token while they must be read again.
	changed chan struct{}
	// added counts the records of such a thing, and the takeovers. settled is its value at which
	// none was left.
	added, settled atomic.Int64
}

func newDeadlines() *deadlines { return &deadlines{changed: make(chan struct{}, 1)} }

// prompt has them read again.
func (d *deadlines) prompt() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// add records that there can be one more.
func (d *deadlines) add() {
	d.added.Add(1)
	d.prompt()
}

// areSettled reports whether none is left.
func (d *deadlines) areSettled() bool { return d.added.Load() == d.settled.Load() }

// await waits until they must be read again, at the latest after the time given; 0 is for no
// limit.
func (d *deadlines) await(ctx context.Context, wait time.Duration) error {
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-due:
	case <-d.changed:
	}
	return ctx.Err()
}
