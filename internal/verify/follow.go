package verify

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/store"
)

const (
	// readTimeout bounds a read of deadlines.
	readTimeout = 10 * time.Second
	// readsPerSecond bounds what a flood of notifications costs, which any role can send.
	readsPerSecond = 5
	// leastWait is the least wait for a deadline.
	leastWait = 10 * time.Millisecond
	// overdueWait is how long to wait for what was requested of drifts that are due.
	overdueWait = 5 * time.Second
)

// SilencesChanged reports that a silence was made, or was ended before its time.
func (v *Verifier) SilencesChanged() { v.silences.prompt() }

// FollowSilences measures which providers are silenced, until ctx ends with the term. When a
// drift has outlived the silences that matched it, everything is verified, and the end of that
// verification alerts the drift again.
func (v *Verifier) FollowSilences(ctx context.Context, queue *Queue) {
	v.follow(ctx, v.silences, "could not read the silences, retrying", func(ctx context.Context) (time.Duration, error) {
		return v.readSilences(ctx, queue)
	})
}

// FollowPending has each pending drift verified once it has lasted for long enough, which alerts
// it, until ctx ends with the term.
func (v *Verifier) FollowPending(ctx context.Context, queue *Queue) {
	v.follow(ctx, v.pending, "could not read the pending drifts, retrying", func(ctx context.Context) (time.Duration, error) {
		return v.readPending(ctx, queue)
	})
}

// AcceptancesChanged reports that a drift may have been accepted.
func (v *Verifier) AcceptancesChanged() { v.accepted.prompt() }

// FollowAcceptances has everything verified when an acceptance ends, which alerts what still
// drifts, until ctx ends with the term.
func (v *Verifier) FollowAcceptances(ctx context.Context, queue *Queue) {
	// At first what a former leader has left counts as well.
	var since time.Time
	v.follow(ctx, v.accepted, "could not read when acceptances end, retrying", func(ctx context.Context) (time.Duration, error) {
		ends, err := store.On(v.pool).AcceptanceEnds(ctx, &since)
		if err != nil {
			return 0, fmt.Errorf("read provwatch.accepted_drift and provwatch.accepted_rows: %w", err)
		}
		since = ends.At
		if ends.Ended > 0 {
			queue.Add(Everything(pubsub.SourceResync))
		}
		if ends.Seconds == 0 {
			return 0, nil
		}
		return max(seconds(ends.Seconds), leastWait), nil
	})
}

// follow reads deadlines whenever they can have changed, and when the first of them comes, until
// ctx ends. read returns how long to wait for that, 0 for no deadline.
func (v *Verifier) follow(ctx context.Context, d *deadlines, failed string, read func(context.Context) (time.Duration, error)) {
	limiter := rate.NewLimiter(readsPerSecond, readsPerSecond)
	for attempt := range (retry.Policy{}).Attempts(ctx) {
		if limiter.Wait(ctx) != nil {
			return
		}
		limited, cancel := context.WithTimeout(ctx, readTimeout)
		wait, err := read(limited)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			again, _ := attempt.Failed()
			v.logger.WarnContext(ctx, failed, "error", err, "retry_in", again)
			continue
		}
		if d.await(ctx, wait) != nil {
			return
		}
	}
}

// readSilences measures which providers are silenced, and requests a verification where a drift
// has outlived its silences. It returns how long the first silence lasts that ends, 0 where none
// does.
func (v *Verifier) readSilences(ctx context.Context, queue *Queue) (wait time.Duration, err error) {
	active, err := store.On(v.pool).ListActiveSilences(ctx)
	if err != nil {
		return 0, fmt.Errorf("read provwatch.silences: %w", err)
	}
	silencing := make(map[string]bool, len(active))
	for _, s := range active {
		silencing[s.Provider] = true
		ends := max(seconds(s.Seconds), leastWait)
		if wait == 0 || ends < wait {
			wait = ends
		}
	}
	if v.conditions.silence(silencing) {
		v.conditions.measure(v.metrics)
	}
	outlived, err := v.anyOutlived(ctx)
	if outlived {
		queue.Add(Everything(pubsub.SourceResync))
	}
	return wait, err
}

// anyOutlived reports whether a drift has outlived the silences that matched it.
func (v *Verifier) anyOutlived(ctx context.Context) (bool, error) {
	if v.silences.areSettled() {
		return false, nil
	}
	added := v.silences.added.Load()
	count, err := store.On(v.pool).CountSilencedDrifts(ctx)
	if err != nil {
		return false, fmt.Errorf("count the drifts that are silenced: %w", err)
	}
	if count.Silenced == 0 {
		v.silences.settled.Store(added)
	}
	return count.Outlived > 0, nil
}

// readPending requests a verification of the pending drifts that have lasted. It returns how long
// to wait for the next one, 0 where none is pending.
func (v *Verifier) readPending(ctx context.Context, queue *Queue) (wait time.Duration, err error) {
	if v.pending.areSettled() {
		return 0, nil
	}
	added := v.pending.added.Load()
	first, err := store.On(v.pool).FirstPending(ctx, v.alertAfter.Seconds())
	switch {
	case err != nil:
		return 0, fmt.Errorf("read provwatch.pending_drifts: %w", err)
	case first.Pending == 0:
		v.pending.settled.Store(added)
		return 0, nil
	case first.Due == 0:
		return max(v.alertAfter-seconds(first.Seconds), leastWait), nil
	case int(first.Due) == len(first.Ids):
		queue.Add(Request{ProviderIDs: first.Ids, Source: pubsub.SourceResync})
	default: // one has no row
		queue.Add(Everything(pubsub.SourceResync))
	}
	return overdueWait, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
