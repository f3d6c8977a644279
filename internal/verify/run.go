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

// Run verifies what pending gathers until ctx ends. A verification that fails is
// tried again with backoff, without limit of tries; maxBackOff bounds the wait,
// before jitter. done is called after each, with its
// error.
func (v *Verifier) Run(ctx context.Context, pending *Pending, maxBackOff time.Duration, done func(Request, error)) {
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
		handling, ended := activity.Handle(ctx, "a verification")
		err := v.Verify(handling, request)
		ended()
		if ctx.Err() != nil {
			return
		}
		done(request, err)
		if err == nil {
			retry.Reset()
			level = slog.LevelWarn
			continue
		}
		wait := retry.NextBackOff()
		v.logger.Log(ctx, level, "verification failed, trying again", "error", err, "retry_in", wait)
		level = slog.LevelInfo
		pending.Again(request)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
