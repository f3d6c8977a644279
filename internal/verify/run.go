package verify

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"provwatch/internal/listener"
)

// Verifications are limited so that notifications, which any role can send,
// cannot keep the database busy: the first of a burst is verified at once, and
// a flood costs no more than this rate.
const (
	maxPerSecond = 20
	burst        = 20
)

// Run verifies what pending gathers until ctx ends. A verification that fails is
// tried again with backoff, without limit of tries; maxBackOff bounds the wait,
// before jitter. done is called after each, with its
// error.
func (v *Verifier) Run(ctx context.Context, pending *listener.Pending, maxBackOff time.Duration, done func(listener.Request, error)) {
	limiter := rate.NewLimiter(maxPerSecond, burst)
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval = 100 * time.Millisecond
	retry.MaxInterval = maxBackOff
	for {
		select {
		case <-ctx.Done():
			return
		case <-pending.Ready():
		}
		if limiter.Wait(ctx) != nil {
			return
		}
		// What arrived while waiting for the limiter is taken as well.
		request, ok := pending.Take()
		if !ok {
			continue
		}
		err := v.Verify(ctx, request)
		if ctx.Err() != nil {
			return
		}
		done(request, err)
		if err == nil {
			retry.Reset()
			continue
		}
		wait := retry.NextBackOff()
		v.logger.WarnContext(ctx, "verification failed, trying again", "error", err, "retry_in", wait)
		pending.Again(request)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
