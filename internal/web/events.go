package web

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Change is what has changed. Several can be combined.
type Change uint

// What can change.
const (
	Alerts    Change = 1 << iota // an alert was recorded
	Audit                        // audit entries were delivered
	Health                       // of this worker
	Leader                       // who leads, or from which source
	Resync                       // everything was verified
	Providers                    // providers were looked at, which may have changed
	Sinks                        // a sink has got further, or there is a dead letter more or less
)

var changeNames = []string{"alerts", "audit", "health", "leader", "resync", "providers", "sinks"}

func (c Change) String() string {
	var names []string
	for i, name := range changeNames {
		if c&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

const (
	// writeTimeout bounds how long a client may take for what is written to it.
	writeTimeout = 10 * time.Second
	// eventPause is the least time between two events.
	eventPause = time.Second
	// heartbeat keeps proxies from closing the connection, and finds a client that has
	// disconnected.
	heartbeat = 15 * time.Second
	// maxClients bounds the streams, each of which is a connection.
	maxClients = 100
	// clientRetry is how long a client that lost its stream waits.
	clientRetry = 2 * time.Second
)

// streamLimit bounds the streams of all pages of a process together. Its methods can be called by
// several goroutines.
type streamLimit struct{ taken atomic.Int32 }

func (s *streamLimit) take() bool {
	if s.taken.Add(1) > maxClients {
		s.free()
		return false
	}
	return true
}

func (s *streamLimit) free() { s.taken.Add(-1) }

// events are the streams of server-sent events, each of which gets every change.
// Changes in quick succession become one event.
type events struct {
	limit *streamLimit

	mu      sync.Mutex
	clients map[*client]bool
	pending Change
	timer   *time.Timer // set while pending waits
	last    time.Time   // of the latest event
	closed  bool
}

type client struct {
	changes chan Change // has room for one: a client that has not taken it is dropped
	dropped chan struct{}
}

func newEvents(s *streamLimit) *events { return &events{limit: s, clients: map[*client]bool{}} }

func (e *events) publish(c Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.clients) == 0 || c == 0 {
		return
	}
	e.pending |= c
	if e.timer != nil {
		return
	}
	wait := eventPause - time.Since(e.last)
	if wait <= 0 {
		e.send()
		return
	}
	e.timer = time.AfterFunc(wait, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.timer = nil
		e.send()
	})
}

// send hands what is pending to all clients. e.mu is held.
func (e *events) send() {
	for c := range e.clients {
		select {
		case c.changes <- e.pending:
		default:
			e.drop(c)
		}
	}
	e.pending, e.last = 0, time.Now()
}

// drop ends a client's stream. e.mu is held.
func (e *events) drop(c *client) {
	if e.clients[c] {
		delete(e.clients, c)
		e.limit.free()
		close(c.dropped)
	}
}

var (
	errFull   = errors.New("too many clients have the page open")
	errClosed = errors.New("the worker is stopping")
)

func (e *events) join() (*client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return nil, errClosed
	case !e.limit.take():
		return nil, errFull
	}
	c := &client{changes: make(chan Change, 1), dropped: make(chan struct{})}
	e.clients[c] = true
	return c, nil
}

func (e *events) leave(c *client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(c)
}

// close ends all streams, and refuses later ones.
func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	for c := range e.clients {
		e.drop(c)
	}
}

// ServeHTTP implements [http.Handler]: it streams events until the client goes,
// is too slow, or the page is closed.
func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := e.join()
	if err != nil {
		w.Header().Set("Retry-After", "30")
		refuse(w, http.StatusServiceUnavailable, err.Error()+"\n")
		return
	}
	defer e.leave(c)
	w.Header().Set("Content-Type", "text/event-stream")
	// A proxy must not gather what it gets.
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return
	}
	out := http.NewResponseController(w)
	write := func(format string, args ...any) bool {
		if out.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return false
		}
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && out.Flush() == nil
	}
	if !write("retry: %d\n\n", clientRetry.Milliseconds()) {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-c.dropped:
			return
		case changed := <-c.changes:
			if !write("event: change\ndata: %s\n\n", changed) {
				return
			}
		case <-beat.C:
			if !write(":\n\n") {
				return
			}
		}
	}
}
