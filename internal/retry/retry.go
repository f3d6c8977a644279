// Package retry paces the attempts of what can fail: the one loop by which the worker
// retries, with backoff and jitter.
//
//	for attempt := range retry.Policy{Max: time.Minute}.Attempts(ctx) {
//		err := try(ctx)
//		if err == nil {
//			return nil
//		}
//		if wait, again := attempt.Failed(); again {
//			logger.WarnContext(ctx, "…", "error", err, "retry_in", wait)
//		}
//	}
package retry

import (
	"cmp"
	"context"
	"iter"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Policy is how long to wait between attempts, and when to give up. The zero Policy
// waits from half a second up to a minute and never gives up.
type Policy struct {
	// First and Max bound the wait, before jitter of ±50 %.
	First, Max time.Duration
	// Factor is by how much each wait is longer than the one before, zero for 1.5.
	Factor float64
	// Constant makes every wait First, without jitter.
	Constant bool

	// Tries is the number of attempts, zero for no limit.
	Tries int
	// Within ends the attempts when the next wait would end later than this after the
	// first attempt, zero for no limit.
	Within time.Duration

	// Steady is how long an attempt must last for its failure to count as the first in a
	// row, zero for none.
	Steady time.Duration
	// Wake ends a wait early.
	Wake <-chan struct{}
}

// Every returns a policy that waits for the same time after each failure.
func Every(wait time.Duration) Policy { return Policy{First: wait, Constant: true} }

// Attempts yields one attempt after another until ctx ends or the policy gives up. It
// waits after an attempt that has [Attempt.Failed]. Any other attempt counts as a
// success: the next one follows at once, and its failure is the first in a row.
func (p Policy) Attempts(ctx context.Context) iter.Seq[*Attempt] {
	return func(yield func(*Attempt) bool) {
		a := Attempt{policy: p, backoff: p.Backoff(), start: time.Now()}
		for {
			a.begin()
			if !yield(&a) || !a.again || !a.sleep(ctx) {
				return
			}
		}
	}
}

// Backoff returns the waits of the policy, for a caller with other events to wait for.
func (p Policy) Backoff() *Backoff {
	b := &Backoff{constant: p.Constant, exponential: backoff.NewExponentialBackOff()}
	b.exponential.InitialInterval = cmp.Or(p.First, b.exponential.InitialInterval)
	b.exponential.MaxInterval = cmp.Or(p.Max, b.exponential.MaxInterval)
	b.exponential.Multiplier = cmp.Or(p.Factor, b.exponential.Multiplier)
	b.exponential.Reset()
	return b
}

// Backoff is a series of waits. One goroutine uses it at a time.
type Backoff struct {
	constant    bool
	exponential *backoff.ExponentialBackOff
}

// Next returns the wait after one more failure.
func (b *Backoff) Next() time.Duration {
	if b.constant {
		return b.exponential.InitialInterval
	}
	return b.exponential.NextBackOff()
}

// Reset makes the next failure the first in a row.
func (b *Backoff) Reset() { b.exponential.Reset() }

// Attempt is one attempt of a loop. The goroutine of the loop uses it, while the loop's
// body runs.
type Attempt struct {
	policy  Policy
	backoff *Backoff
	start   time.Time // of the first attempt
	tries   int       // attempts so far

	began  time.Time // this attempt
	failed bool
	wait   time.Duration
	again  bool // another attempt follows
	waited bool // the caller has spent the wait
}

func (a *Attempt) begin() {
	a.tries++
	a.began, a.failed, a.wait, a.again, a.waited = time.Now(), false, 0, true, false
}

// Failed records that the attempt has failed. It returns how long the loop waits before
// the next attempt, and whether there is one.
func (a *Attempt) Failed() (wait time.Duration, again bool) {
	if a.failed {
		return a.wait, a.again
	}
	if a.policy.Steady > 0 && time.Since(a.began) > a.policy.Steady {
		a.backoff.Reset()
	}
	a.failed, a.wait = true, a.backoff.Next()
	a.again = (a.policy.Tries == 0 || a.tries < a.policy.Tries) &&
		(a.policy.Within == 0 || time.Since(a.start)+a.wait <= a.policy.Within)
	return a.wait, a.again
}

// Waited records that the caller has spent the wait of the failed attempt itself: the next
// attempt follows at once.
func (a *Attempt) Waited() { a.waited = true }

// Reset makes the next failure the first in a row.
func (a *Attempt) Reset() { a.backoff.Reset() }

// sleep waits for the next attempt. It reports false when ctx ends first.
func (a *Attempt) sleep(ctx context.Context) bool {
	if !a.failed {
		a.backoff.Reset()
		return ctx.Err() == nil
	}
	if a.waited {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(a.wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-a.policy.Wake:
	case <-timer.C:
	}
	return true
}

// Sleep waits for the time given, or returns the error of ctx when that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
