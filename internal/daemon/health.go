package daemon

import (
	"errors"
	"sync"
)

// health is what /readyz tells. Its zero value is that of a worker that is still
// booting.
type health struct {
	mu        sync.Mutex
	listening error
	verified  error
	// privileges says which privileges the role lacks.
	privileges error
	listened   bool // listening has been set
	looked     bool // verified has been set
}

func (h *health) setListening(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listening, h.listened = err, true
}

func (h *health) setVerified(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.verified, h.looked = err, true
}

func (h *health) setPrivileges(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.privileges = err
}

func (h *health) lacksPrivileges() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.privileges != nil
}

func (h *health) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.listened || !h.looked {
		return errors.New("booting")
	}
	return errors.Join(h.listening, h.verified, h.privileges)
}
