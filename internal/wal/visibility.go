package wal

import (
	"context"
	"fmt"
	"time"

	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// A commit is in the WAL before queries see it: for a moment on any server, and with a
// synchronous standby until the standby has answered. A look in between would miss the
// change that prompted it, such as a new key, and nothing would prompt another look.

// maxUnchecked is how many transactions are kept without asking the server whether queries
// see them. Of more, only the invisible ones stay: no more than there are sessions.
const maxUnchecked = 1000

// A held verification is asked for again after minVisiblePause, and then less and less
// often up to maxVisiblePause.
const (
	minVisiblePause = time.Millisecond
	maxVisiblePause = time.Second
)

// held is a verification that waits until queries see what the stream showed before.
type held struct {
	request verify.Request
	xids    []int64 // of transactions that can still be invisible to queries
	pause   time.Duration
}

// hold makes the request wait for all that the stream has shown so far. What it shows
// later asks for the next one.
func (s *session) hold(request verify.Request) {
	s.held = &held{request, s.unchecked, minVisiblePause}
	s.unchecked = nil
}

// awaitVisible returns 0 when queries see all that the held verification waits for, and
// otherwise after which time to ask again.
func (s *session) awaitVisible(ctx context.Context) (wait time.Duration, err error) {
	if s.held.xids, err = s.invisible(ctx, s.held.xids); err != nil || len(s.held.xids) == 0 {
		return 0, err
	}
	wait = s.held.pause
	s.held.pause = min(2*wait, maxVisiblePause)
	return wait, nil
}

// noteApplied adds a transaction to those that can still be invisible to queries.
func (s *session) noteApplied(t *transaction) {
	if t.keysTouched || len(t.changes) > 0 {
		s.unchecked = append(s.unchecked, int64(t.xid))
	}
}

// forgetVisible keeps the list of transactions small.
func (s *session) forgetVisible(ctx context.Context) (err error) {
	if len(s.unchecked) > maxUnchecked {
		s.unchecked, err = s.invisible(ctx, s.unchecked)
	}
	return err
}

// invisible returns which of the transactions queries do not see yet.
func (s *session) invisible(ctx context.Context, xids []int64) ([]int64, error) {
	if len(xids) == 0 {
		return nil, nil
	}
	left, err := store.On(s.Pool).ListInvisible(ctx, xids)
	if err != nil {
		return xids, fmt.Errorf("ask whether queries see the changes of the stream: %w", err)
	}
	return left, nil
}
