// Package systemd tells the service manager how the worker does: that it is
// ready, reloads or stops, what it is doing, and that it is alive. It speaks
// sd_notify's protocol, as systemd and others do; where no service manager
// listens, it does nothing.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Service is this process as the service manager sees it. Its members are the daemons
// that run in it: it is ready when all of them are, or have failed once, and alive only
// while all of them are. It is safe for concurrent use; a nil one does nothing.
type Service struct {
	logger   *slog.Logger
	watchdog time.Duration // within which the manager wants to hear; 0 for no watchdog

	mu      sync.Mutex
	members []*Member
	state   string // last sent
	status  string // last sent
	failed  bool   // that the manager cannot be told has been logged
}

// Member is one daemon of a service. It is safe for concurrent use.
type Member struct {
	service   *Service
	daemon    Daemon
	ready     bool
	reloading bool
	status    string
}

// New returns the service, with the watchdog that the manager asks for by
// WATCHDOG_USEC.
func New(logger *slog.Logger) *Service {
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		logger.Warn("the service manager's watchdog is not answered", "error", err)
	}
	return &Service{logger: logger, watchdog: watchdog}
}

// Daemon is what joins a service.
type Daemon interface {
	// Alive returns why the daemon no longer works and will not by itself. A database that
	// is away is no such reason, since a restart does not bring it back.
	Alive() error
}

// Join adds a daemon, before any of the service's is ready.
func (s *Service) Join(d Daemon) *Member {
	if s == nil {
		s = &Service{logger: slog.New(slog.DiscardHandler)}
	}
	m := &Member{service: s, daemon: d}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, m)
	return m
}

// Run answers the watchdog at half its time until ctx ends, for as long as every
// member is alive. Without a watchdog it returns at once.
func (s *Service) Run(ctx context.Context) {
	if s.watchdog == 0 {
		return
	}
	ticker := time.NewTicker(s.watchdog / 2)
	defer ticker.Stop()
	for {
		if err := s.alive(); err != nil {
			s.logger.ErrorContext(ctx, "the watchdog is not answered, so that the worker is restarted", "error", err)
		} else {
			s.mu.Lock()
			s.send(daemon.SdNotifyWatchdog)
			s.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Service) alive() error {
	s.mu.Lock()
	members := s.members
	s.mu.Unlock()
	for _, m := range members {
		if err := m.daemon.Alive(); err != nil {
			return err
		}
	}
	return nil
}

// Ready tells that the daemon does its job.
func (m *Member) Ready() { m.set(func() { m.ready = true }) }

// Tried tells that the daemon's start has failed and is tried again, which the
// service's does not wait for.
func (m *Member) Tried() { m.Ready() }

// Reloading tells that the daemon reads its configuration again, until
// [Member.Reloaded]. While it boots it is not said.
func (m *Member) Reloading() { m.set(func() { m.reloading = true }) }

// Reloaded tells that the daemon has read its configuration again, or kept the
// one it had.
func (m *Member) Reloaded() { m.set(func() { m.reloading = false }) }

func (m *Member) set(change func()) {
	m.service.mu.Lock()
	defer m.service.mu.Unlock()
	change()
	state := daemon.SdNotifyReady
	for _, other := range m.service.members {
		if !other.ready {
			return
		}
		if other.reloading {
			state = daemon.SdNotifyReloading
		}
	}
	m.service.enter(state)
}

// Stopping tells that the daemon stops, and with it the service.
func (m *Member) Stopping() {
	m.service.mu.Lock()
	defer m.service.mu.Unlock()
	m.service.enter(daemon.SdNotifyStopping)
}

// enter sends the state if it is another than the last. Nothing follows stopping.
func (s *Service) enter(state string) {
	if s.state == state || s.state == daemon.SdNotifyStopping {
		return
	}
	s.state = state
	s.send(state)
}

// Status tells in words what the daemon does, for people to read. It holds no
// secret.
func (m *Member) Status(text string) {
	s := m.service
	s.mu.Lock()
	defer s.mu.Unlock()
	m.status = strings.Join(strings.Fields(text), " ") // a line break would end it
	var all []string
	for _, member := range s.members {
		if member.status != "" {
			all = append(all, member.status)
		}
	}
	if status := strings.Join(all, "; "); status != s.status {
		s.status = status
		s.send("STATUS=" + status)
	}
}

func (s *Service) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil && !s.failed {
		s.failed = true
		s.logger.Warn("could not notify the service manager", "error", fmt.Errorf("send %s to NOTIFY_SOCKET: %w", state, err))
	}
}
