package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/sourcegraph/conc/panics"

	"provwatch/internal/daemon"
	"provwatch/internal/retry"
)

// firstTargetRetry and maxTargetRetry bound the wait before a failed target is retried.
const (
	firstTargetRetry = time.Second
	maxTargetRetry   = time.Minute
)

// Target is one of several databases that a process watches.
type Target struct {
	Name string // unique
	// Server is equal for targets that share a server; they boot a few at a time.
	Server string
	// Open returns what to run, before each run: it reads what can have changed. The
	// Serving and Logger of its options do not count.
	Open func(ctx context.Context, logger *slog.Logger) (daemon.Options, error)
}

// target is a target while it runs, and between runs. It supervises its daemon, on a
// goroutine of its own.
type target struct {
	spec   Target
	fleet  *fleet
	daemon *daemon.Daemon
	logger *slog.Logger
	reload chan os.Signal

	endTurn func() // ends the turn to boot, of the target's goroutine
}

// Booted implements [daemon.Supervisor].
func (t *target) Booted() {
	t.endTurn()
	t.fleet.metrics.Up(t.spec.Name)
}

// Describe implements [daemon.Supervisor].
func (t *target) Describe() { t.fleet.describe() }

// run runs the daemon again after each failure until ctx ends.
func (t *target) run(ctx context.Context) {
	back := retry.Policy{First: firstTargetRetry, Max: maxTargetRetry}.Backoff()
	for {
		began := time.Now()
		err := t.try(ctx)
		t.daemon.Ended()
		t.fleet.metrics.Down(t.spec.Name, ctx.Err() == nil)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, ctx.Err()) {
				t.logger.WarnContext(ctx, "the target has failed while it was stopped", "error", err)
			}
			return
		}
		if time.Since(began) > maxTargetRetry {
			back.Reset()
		}
		wait := back.Next()
		t.logger.ErrorContext(ctx, "the target has failed, retrying", "error", err, "retry_in", wait)
		t.daemon.Failed(err)
		t.fleet.describe()
		select {
		case <-ctx.Done():
			return
		case <-t.reload:
		case <-time.After(wait):
		}
	}
}

// try runs the daemon once. Its error is also that of a panic.
func (t *target) try(ctx context.Context) (err error) {
	caught := panics.Try(func() { err = t.boot(ctx) })
	if caught == nil {
		return err
	}
	value := caught.Value
	for {
		inner, ok := value.(*panics.Recovered) // by a group
		if !ok {
			break
		}
		caught, value = inner, inner.Value
	}
	t.logger.ErrorContext(ctx, "a part of the worker has panicked", "panic", fmt.Sprint(value), "stack", string(caught.Stack))
	return errors.New("a part of the worker has panicked; the log has its stack")
}

// boot waits for a turn, reads what to run and runs the daemon.
func (t *target) boot(ctx context.Context) error {
	done, err := t.fleet.turn(ctx, t.spec.Server)
	if err != nil {
		return err
	}
	defer done()
	t.endTurn = done
	o, err := t.spec.Open(ctx, t.logger)
	if err != nil {
		return err
	}
	return t.daemon.Run(ctx, o, t.reload)
}
