package daemon

import "sync/atomic"

// milestones are events that are published once the next full verification has succeeded.
// Any goroutine sets them; that of the source takes them.
type milestones struct {
	booted      atomic.Bool // was published
	reconnected atomic.Bool // must be published
	reloaded    atomic.Bool // must be published
}
