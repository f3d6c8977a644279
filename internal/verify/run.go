package verify

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"provwatch/internal/postgres"
	"provwatch/internal/retry"
	"provwatch/internal/rollout"
)

// Verifications are limited so that notifications, which any role can send,
// cannot keep the database busy: the first of a burst is verified at once, and
// a flood costs no more than this rate.
const (
	maxPerSecond = 20
	burst        = 20
)

// Host is the worker that a [Verifier] runs for.
type Host interface {
	// Verified gets the result of each verification of [Verifier.Run], on its goroutine.
	Verified(ctx context.Context, request Request, err error)
}

// Run verifies what the queue holds until ctx ends, or another worker has a newer environment.
// It retries a verification that fails with backoff, without limit of tries; maxBackOff bounds
// the wait, before jitter.
func (v *Verifier) Run(ctx context.Context, queue *Queue, maxBackOff time.Duration, host Host) {
	activity := postgres.ActivityOf(v.pool.Config().ConnConfig)
	limiter := rate.NewLimiter(maxPerSecond, burst)
	level := slog.LevelWarn // of the first failure in a row; the others are at a lower level
	for attempt := range (retry.Policy{First: 100 * time.Millisecond, Max: maxBackOff}).Attempts(ctx) {
		request, ok := next(ctx, queue, limiter)
		if !ok {
			return
		}
		handling, ended := activity.Handle(ctx, "a verification")
		err := v.Verify(handling, request)
		ended()
		if ctx.Err() != nil || rollout.IsOlder(err) {
			queue.Retry(request)
			return
		}
		host.Verified(ctx, request, err)
		if err == nil {
			queue.Done()
			level = slog.LevelWarn
			continue
		}
		wait, _ := attempt.Failed()
		v.logger.Log(ctx, level, "verification failed, retrying", "error", err, "retry_in", wait)
		level = slog.LevelInfo
		queue.Retry(request)
	}
}

// next waits for a request, and returns false when ctx ends. What is added while the limiter
// waits is part of the request.
func next(ctx context.Context, queue *Queue, limiter *rate.Limiter) (request Request, ok bool) {
	for !ok {
		select {
		case <-ctx.Done():
			return Request{}, false
		case <-queue.Ready():
		}
		if limiter.Wait(ctx) != nil {
			return Request{}, false
		}
		request, ok = queue.Get()
	}
	return request, true
}

// Verify does one verification. Its alerts are durable and published when it returns nil;
// after an error the same request may be verified again, and no alert is published twice.
func (v *Verifier) Verify(ctx context.Context, request Request) error {
	return v.measure(ctx, request.All, func(ctx context.Context, run *verification) error { return run.verify(ctx, request) })
}

// verify reads what the request covers, and records what is news.
func (r *verification) verify(ctx context.Context, request Request) error {
	start := time.Now()
	if err := r.take(ctx); err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	hinted, found, err := r.suspects(ctx, request)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	read := len(hinted.comparisons) + len(hinted.rows) + found.count()
	news, err := r.record(ctx, hinted, request.Source, true)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	for _, some := range found.chunks() {
		seen, err := r.readSuspects(ctx, some)
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		recorded, err := r.record(ctx, seen, request.Source, false)
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		news += recorded
	}
	if request.All {
		if err := r.end(ctx, request.Source); err != nil {
			return err
		}
	}

	r.v.conditions.measure(r.v.metrics)
	r.v.logger.DebugContext(ctx, "verified", "full", request.All, "source", string(request.Source),
		"looked_at", read, "news", news, "took", time.Since(start))
	return nil
}
