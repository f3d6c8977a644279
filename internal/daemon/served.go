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

const (
	// servedTimeout bounds how long a start or a reload looks at what the gateway
	// serves. Nothing but the next reload waits for it.
	servedTimeout = 10 * time.Second
	// servedPause is how old what a page shows of it can be. Every enabled row is read
	// for it.
	servedPause = 10 * time.Second
)

// warnOfServed warns of providers that the gateway does not serve as their rows
// suggest.
func (d *daemon) warnOfServed(ctx context.Context) {
	looking, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	notices, err := status.NoticeUnserved(looking, d.pool, d.Keys)
	if err != nil && ctx.Err() == nil {
		d.Logger.WarnContext(ctx, "cannot tell what the gateway serves", "error", err)
	}
	status.LogNotices(ctx, d.Logger, notices)
}

// servedCache keeps for a while what a page shows of providers that the gateway does
// not serve as their rows suggest. Its methods may be called by several goroutines.
type servedCache struct {
	mu      sync.Mutex
	notices []provider.Notice
	at      time.Time // when they were found; zero for not yet
}

// inspect returns nil where it cannot be known: the rest of the page does not depend
// on it. One that fails is not tried again for each page either.
func (c *servedCache) inspect(ctx context.Context, db store.DBTX, keys *dbcrypt.Ring) []provider.Notice {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && time.Since(c.at) < servedPause {
		return c.notices
	}
	notices, err := status.NoticeUnserved(ctx, db, keys)
	if err != nil {
		notices = nil
	}
	c.notices, c.at = notices, time.Now()
	return notices
}

// forget makes the next page look, as after a change of the database.
func (c *servedCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notices, c.at = nil, time.Time{}
}
