package observe

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// connections are the open ones of a server. It closes the one whose state has been the
// same for longest when there are too many.
type connections struct {
	max int

	mu    sync.Mutex
	since map[net.Conn]time.Time // when its state last changed
}

func newConnections(maximum int) *connections {
	return &connections{max: maximum, since: map[net.Conn]time.Time{}}
}

// changed is a ConnState of [http.Server].
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(c.since, conn)
		return
	}
	c.since[conn] = time.Now()
	if len(c.since) <= c.max {
		return
	}
	var oldest net.Conn
	for conn, since := range c.since {
		if oldest == nil || since.Before(c.since[oldest]) {
			oldest = conn
		}
	}
	delete(c.since, oldest)
	_ = oldest.Close()
}
