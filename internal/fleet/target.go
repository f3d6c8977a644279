package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sourcegraph/conc/panics"

	"provwatch/internal/daemon"
	"provwatch/internal/observe"
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
	// Opener opens the target for each run.
	Opener Opener
	// Reload gets a value for each reload of this target, and has room for one. A reload of
	// all targets is one of each.
	Reload chan struct{}
}

// Opener opens one target. The goroutine of the target calls it before each run.
type Opener interface {
	// Open reads what can have changed, and returns what to run. The Serving and Logger of
	// the options do not count.
	Open(ctx context.Context, logger *slog.Logger) (daemon.Options, error)
}

// target is a target while it runs, and between runs. It supervises its daemon, on a
// goroutine of its own.
type target struct {
	spec    Target
	daemon  *daemon.Daemon
	roster  *roster
	metrics *observe.Targets
	turns   *turns
	logger  *slog.Logger

	endTurn func() // ends the turn to boot, of the target's goroutine
}

// Booted implements [daemon.Supervisor].
func (t *target) Booted() {
	t.endTurn()
	t.metrics.Up(t.spec.Name)
}

// Describe implements [daemon.Supervisor].
func (t *target) Describe() { t.roster.describe() }

// run runs the daemon again after each failure until ctx ends.
func (t *target) run(ctx context.Context) {
	// A target that ran for long fails for the first time in a row. A reload ends the wait.
	policy := retry.Policy{First: firstTargetRetry, Max: maxTargetRetry, Steady: maxTargetRetry, Wake: t.spec.Reload}
	for attempt := range policy.Attempts(ctx) {
		err := t.try(ctx)
		t.daemon.Ended()
		t.metrics.Down(t.spec.Name, ctx.Err() == nil)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, ctx.Err()) {
				t.logger.WarnContext(ctx, "the target has failed while it was stopped", "error", err)
			}
			return
		}
		wait, _ := attempt.Failed()
		t.logger.ErrorContext(ctx, "the target has failed, retrying", "error", err, "retry_in", wait)
		t.daemon.Failed(err)
		t.roster.describe()
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
	done, err := t.turns.take(ctx, t.spec.Server)
	if err != nil {
		return err
	}
	defer done()
	t.endTurn = done
	o, err := t.spec.Opener.Open(ctx, t.logger)
	if err != nil {
		return err
	}
	return t.daemon.Run(ctx, o, t.spec.Reload)
}
