package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/store"
)

// A commit is in the WAL before queries see it: for a moment on any server, and with a
// synchronous standby until the standby has answered. A query in between would miss the
// change that prompted it, such as a new key, and nothing would prompt another one.

// maxTracked is how many transactions are kept without asking the server whether queries
// see them. Of more, only the invisible ones stay: no more than there are sessions.
const maxTracked = 1000

// visibilityTracker tracks the transactions of the stream that can still be invisible to
// queries. Only the handler's goroutine touches it.
type visibilityTracker struct {
	pool *pgxpool.Pool
	xids []int64
}

// add adds a transaction that has changed something.
func (v *visibilityTracker) add(t *transaction) {
	if t.keysTouched || len(t.changes) > 0 {
		v.xids = append(v.xids, int64(t.xid))
	}
}

// take returns all transactions, and forgets them.
func (v *visibilityTracker) take() (xids []int64) {
	xids, v.xids = v.xids, nil
	return xids
}

// trim keeps the list of transactions small.
func (v *visibilityTracker) trim(ctx context.Context) (err error) {
	if len(v.xids) > maxTracked {
		v.xids, err = v.invisible(ctx, v.xids)
	}
	return err
}

// invisible returns which of the transactions queries do not see yet.
func (v *visibilityTracker) invisible(ctx context.Context, xids []int64) ([]int64, error) {
	if len(xids) == 0 {
		return nil, nil
	}
	left, err := store.On(v.pool).ListInvisible(ctx, xids)
	if err != nil {
		return xids, fmt.Errorf("ask whether queries see the changes of the stream: %w", err)
	}
	return left, nil
}
