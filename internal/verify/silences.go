package verify

import (
	"context"
	"sync/atomic"
	"time"
)

// silences is what a leader knows of drifts whose latest alert is silenced. Such a drift is
// alerted again once it has outlived the silences that matched it.
//
// [Verifier.TakeOver] and whatever announces records write it, on any goroutine.
type silences struct {
	// changed holds a token while the silences must be read again.
	changed chan struct{}
	// alerts counts the silenced alerts, and the takeovers. settled is its value at which no
	// such drift was left.
	alerts, settled atomic.Int64
}

func newSilences() *silences { return &silences{changed: make(chan struct{}, 1)} }

// prompt has the silences read again.
func (s *silences) prompt() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// forget makes nothing known: another worker has led.
func (s *silences) forget() { s.alerted() }

// alerted records that an alert was silenced.
func (s *silences) alerted() {
	s.alerts.Add(1)
	s.prompt()
}

// isSettled reports whether there is no drift whose latest alert is silenced.
func (s *silences) isSettled() bool { return s.alerts.Load() == s.settled.Load() }

// await waits until the silences must be read again, at the latest after the time given; 0 is for
// no limit.
func (s *silences) await(ctx context.Context, wait time.Duration) error {
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-due:
	case <-s.changed:
	}
	return ctx.Err()
}
