package daemon

import (
	"context"
	"math/rand/v2"
	"time"

	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
)

// resync asks for a full verification at each interval, and checks the privileges and the
// keys. It has a goroutine of its own.
type resync struct {
	interval   time.Duration
	pending    *verify.Queue
	leadership *leadership
	privileges *privileges
	encryption *encryption
	health     *health
	liveness   *liveness
}

// run asks for a full verification at each interval, until ctx ends. The interval has ±10 %
// jitter, so that workers that started together do not stay together. With each the
// privileges are checked, those of a standby at another time, since it sends few statements
// in each minute. While no key can encrypt, run looks for a key that can.
func (r *resync) run(ctx context.Context) {
	interval := func() <-chan time.Time {
		return time.After(time.Duration(float64(r.interval) * (0.9 + 0.2*rand.Float64())))
	}
	// The gateway notifies of no key that it registers.
	keys := time.NewTicker(encryptionPause)
	defer keys.Stop()
	next := interval()
	var between <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-between:
			between = nil
			r.privileges.check(ctx)
		case <-keys.C:
			if r.health.cannotEncrypt() {
				r.encryption.check(ctx)
			}
		case <-next:
			next = interval()
			// A missing privilege must be known before a drift needs it.
			if r.leadership.leads() {
				r.privileges.check(ctx)
			} else {
				between = time.After(r.interval / 2)
			}
			r.liveness.ask()
			r.pending.Add(verify.Everything(pubsub.SourceResync))
		}
	}
}
