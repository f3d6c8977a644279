package daemon

import (
	"context"
	"time"

	"provwatch/internal/lockwait"
)

// maxSettle bounds for how long a reason stands in any case.
const maxSettle = 2 * time.Second

// lateCheck checks what the sessions of a run have begun and not ended in time. It has a
// goroutine of its own, from the boot on.
//
// A statement can wait for half of --answer-timeout for another session, and can last for
// all of it where it waits for none. After that the worker is not ready, with the holder as
// the reason. That holds for each statement on which an alert depends, at the boot too: none
// has to be listed here.
type lateCheck struct {
	monitor monitor
	health  *health
	settle  time.Duration // for which a reason stands in any case
	linger  time.Duration // for which a reason stands that may come again

	last   *lockwait.LateError
	lastAt time.Time
}

// monitor is a [lockwait.Monitor]. Tests have a monitor that returns what they choose.
type monitor interface {
	Check(ctx context.Context, now time.Time) *lockwait.LateError
	Pause() time.Duration
}

func newLateCheck(o Options, h *health, m monitor) *lateCheck {
	return &lateCheck{monitor: m, health: h, settle: min(o.patience(), maxSettle), linger: o.AnswerTimeout + o.MaxBackOff*3/2}
}

// run checks until ctx ends.
func (c *lateCheck) run(ctx context.Context) {
	ticks := time.NewTicker(c.monitor.Pause())
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			c.health.setWaiting(c.reason(ctx, time.Now()))
		}
	}
}

// reason returns what has not ended and makes the worker not ready, nil where all has ended;
// and whether it has ended by now.
func (c *lateCheck) reason(ctx context.Context, now time.Time) (reason error, ended bool) {
	if late := c.monitor.Check(ctx, now); late != nil {
		c.last, c.lastAt = late, now
		return late, false
	}
	// What was broken off is retried, and waits again. That it has failed is known a moment
	// later.
	ago := now.Sub(c.lastAt)
	if c.last != nil && (ago < c.settle || ago < c.linger && c.health.hasFailed()) {
		return c.last, true
	}
	c.last = nil
	return nil, true
}
