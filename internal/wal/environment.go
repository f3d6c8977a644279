package wal

import (
	"context"
	"slices"

	"provwatch/internal/retry"
	"provwatch/internal/verify"
)

// environmentMarker is our message in a transaction that records another environment as the
// newest, see the query attendEnvironments. Any role can write one: it is a hint to look.
const environmentMarker = "environment"

// environmentFollower has the verifier look for a newer environment where the stream shows
// that one was recorded. Only the handler's goroutine touches it.
type environmentFollower struct {
	verifier   *verify.Verifier
	visibility *visibilityTracker
}

// follow looks before what the transactions have changed is compared with this worker's
// environment. It waits until queries see them. The error is a [*rollout.OlderError] where this
// worker's environment is older.
func (f environmentFollower) follow(ctx context.Context, transactions ...*transaction) error {
	var xids []int64
	for _, t := range transactions {
		if slices.Contains(t.markers, environmentMarker) {
			xids = append(xids, int64(t.xid))
		}
	}
	if len(xids) == 0 {
		return nil
	}
	for attempt := range (retry.Policy{First: minVisiblePause, Max: maxVisiblePause, Factor: 2}).Attempts(ctx) {
		var err error
		if xids, err = f.visibility.invisible(ctx, xids); err != nil {
			return err
		}
		if len(xids) == 0 {
			return f.verifier.Overtaken(ctx)
		}
		attempt.Failed()
	}
	return ctx.Err()
}
