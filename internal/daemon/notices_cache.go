package daemon

import (
	"context"
	"sync"
	"time"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/status"
	"provwatch/internal/store"
)

// noticesPause is how old the notices that a page shows can be. Every enabled row is read
// for them.
const noticesPause = 10 * time.Second

// noticesCache keeps the notices that a page shows of providers that the gateway does not
// serve as their rows suggest. Its methods may be called by several goroutines.
type noticesCache struct {
	mu      sync.Mutex
	notices []provider.Notice
	at      time.Time // when they were found; zero for not yet
}

// get returns nil where the notices cannot be known: the rest of the page does not depend on
// them. After a failure it does not retry for each page either.
func (c *noticesCache) get(ctx context.Context, db store.DBTX, keys *dbcrypt.Ring) []provider.Notice {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && time.Since(c.at) < noticesPause {
		return c.notices
	}
	notices, err := status.NoticeUnserved(ctx, db, keys)
	if err != nil {
		notices = nil
	}
	c.notices, c.at = notices, time.Now()
	return notices
}

// clear makes the next call of get read the notices, as after a change of the database.
func (c *noticesCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notices, c.at = nil, time.Time{}
}
