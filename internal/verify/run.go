package verify

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"provwatch/internal/postgres"
)

// Verifications are limited so that notifications, which any role can send,
// cannot keep the database busy: the first of a burst is verified at once, and
// a flood costs no more than this rate.
const (
	maxPerSecond = 20
	burst        = 20
)

// Run verifies what the queue holds until ctx ends. It retries a verification that fails
// with backoff, without limit of tries; maxBackOff bounds the wait, before jitter. It
// calls done after each, with its error.
func (v *Verifier) Run(ctx context.Context, queue *Queue, maxBackOff time.Duration, done func(Request, error)) {
	activity := postgres.ActivityOf(v.pool.Config().ConnConfig)
	limiter := rate.NewLimiter(maxPerSecond, burst)
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval = 100 * time.Millisecond
	retry.MaxInterval = maxBackOff
	level := slog.LevelWarn // of the first failure, and not of those that follow it
	for {
		select {
		case <-ctx.Done():
			return
		case <-queue.Ready():
		}
		if limiter.Wait(ctx) != nil {
			return
		}
		// What arrived while the limiter made it wait comes as well.
		request, ok := queue.Get()
		if !ok {
			continue
		}
		handling, ended := activity.Handle(ctx, "a verification")
		err := v.Verify(handling, request)
		ended()
		if ctx.Err() != nil {
			queue.Retry(request)
			return
		}
		done(request, err)
		if err == nil {
			queue.Done()
			retry.Reset()
			level = slog.LevelWarn
			continue
		}
		wait := retry.NextBackOff()
		v.logger.Log(ctx, level, "verification failed, trying again", "error", err, "retry_in", wait)
		level = slog.LevelInfo
		queue.Retry(request)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
