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

// maxUnseen is how many transactions are kept without asking the server whether queries
// see them. Of more, only the invisible ones stay: no more than there are sessions.
const maxUnseen = 1000

// unseen are the transactions of the stream that can still be invisible to queries. Only
// the handler's goroutine touches them.
type unseen struct {
	pool *pgxpool.Pool
	xids []int64
}

// add adds a transaction that has changed something.
func (u *unseen) add(t *transaction) {
	if t.keysTouched || len(t.changes) > 0 {
		u.xids = append(u.xids, int64(t.xid))
	}
}

// take returns all of them, and forgets them.
func (u *unseen) take() (xids []int64) {
	xids, u.xids = u.xids, nil
	return xids
}

// trim keeps the list of transactions small.
func (u *unseen) trim(ctx context.Context) (err error) {
	if len(u.xids) > maxUnseen {
		u.xids, err = u.invisible(ctx, u.xids)
	}
	return err
}

// invisible returns which of the transactions queries do not see yet.
func (u *unseen) invisible(ctx context.Context, xids []int64) ([]int64, error) {
	if len(xids) == 0 {
		return nil, nil
	}
	left, err := store.On(u.pool).ListInvisible(ctx, xids)
	if err != nil {
		return xids, fmt.Errorf("ask whether queries see the changes of the stream: %w", err)
	}
	return left, nil
}
