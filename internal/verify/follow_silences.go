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
	// silencesTimeout bounds a read of the silences.
	silencesTimeout = 10 * time.Second
	// readsPerSecond bounds what a flood of notifications costs, which any role can send.
	readsPerSecond = 5
	// leastWait is the least wait for the end of a silence.
	leastWait = 10 * time.Millisecond
)

// SilencesChanged reports that a silence was made, or was ended before its time.
func (v *Verifier) SilencesChanged() { v.silences.prompt() }

// FollowSilences measures which providers are silenced, until ctx ends with the term. When a
// drift has outlived the silences that matched it, everything is verified, and the end of that
// verification alerts the drift again.
func (v *Verifier) FollowSilences(ctx context.Context, queue *Queue) {
	limiter := rate.NewLimiter(readsPerSecond, readsPerSecond)
	for attempt := range (retry.Policy{}).Attempts(ctx) {
		if limiter.Wait(ctx) != nil {
			return
		}
		wait, err := v.readSilences(ctx, queue)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			again, _ := attempt.Failed()
			v.logger.WarnContext(ctx, "could not read the silences, retrying", "error", err, "retry_in", again)
			continue
		}
		if v.silences.await(ctx, wait) != nil {
			return
		}
	}
}

// readSilences measures which providers are silenced, and requests a verification where a drift
// has outlived its silences. It returns how long the first silence lasts that ends, 0 where none
// does.
func (v *Verifier) readSilences(ctx context.Context, queue *Queue) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, silencesTimeout)
	defer cancel()
	active, err := store.On(v.pool).ListActiveSilences(ctx)
	if err != nil {
		return 0, fmt.Errorf("read provwatch.silences: %w", err)
	}
	silencing := make(map[string]bool, len(active))
	for _, s := range active {
		silencing[s.Provider] = true
		ends := max(time.Duration(s.Seconds*float64(time.Second)), leastWait)
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
	if v.silences.isSettled() {
		return false, nil
	}
	alerts := v.silences.alerts.Load()
	count, err := store.On(v.pool).CountSilencedDrifts(ctx)
	if err != nil {
		return false, fmt.Errorf("count the drifts that are silenced: %w", err)
	}
	if count.Silenced == 0 {
		v.silences.settled.Store(alerts)
	}
	return count.Outlived > 0, nil
}
