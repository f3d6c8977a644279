package daemon

import "sync"

// checkOrder orders checks of the same thing that several goroutines do at once: the result of
// one counts for nothing once the result of a check that began later is in use. Its zero value
// has seen no check. Its methods may be called by several goroutines.
type checkOrder struct {
	mu          sync.Mutex
	begun, used int64
}

// begin returns the number of a check that begins now.
func (o *checkOrder) begin() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begun++
	return o.begun
}

// use reports whether the result of a check can be used. The caller then uses it, and calls
// done: no other result is used in between.
func (o *checkOrder) use(check int64) (done func(), isLatest bool) {
	o.mu.Lock()
	if check < o.used {
		o.mu.Unlock()
		return nil, false
	}
	o.used = check
	return o.mu.Unlock, true
}
