// Package rollout decides which of two workers with different environments is the older one,
// while a rolling update has both side by side (docs/specification.md, section 4, "Older and
// newer environments").
//
//	            a worker with a newer environment is there
//	current ────────────────────────────────────────────────▶ older
//	   ▲                                                        │
//	   └────────────────────────────────────────────────────────┘
//	     none was there for the length of the window
//
// Environments have generations: a seed, an apply, or the beginning of a leader's work gives
// its environment the next one, unless it has the newest. A worker is there while it refreshes
// its row of provwatch.workers, and for a window after that, by the database's clock.
//
// A worker that was older also measures the window by its own clock, in time in which the
// database answered. So neither an outage of the database nor a jump of its clock counts as
// the absence of the newer worker, which was cut off as well.
package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// Window is for how long a worker counts as there after it was seen, by default. MinWindow is
// the least that leaves room for signs of its presence.
const (
	Window    = 2 * time.Minute
	MinWindow = 3 * time.Second
)

// refreshes is how often a worker shows that it is there within a window.
const refreshes = 4

// Role is what a member does with its environment.
type Role int

// The roles.
const (
	// Seeds is a worker that seeds, or leads and records: its environment gets a generation,
	// unless it is older.
	Seeds Role = iota
	// Observes is a worker that writes nothing to the provider tables. Its environment gets no
	// generation, and holds no other worker back.
	Observes
	// Applies is a command of an operator: its environment gets a generation in any case.
	Applies
)

// OlderError reports that a worker with a newer environment is there, or was within the window.
type OlderError struct {
	store.NewerWorker
	Until time.Time // when the window ends, unless the worker is seen again
}

func (e *OlderError) Error() string {
	return fmt.Sprintf("this environment is older than that of worker %s of role %q, which is newer since %s and was last seen at %s",
		e.Worker, e.Role, e.Since.Format(time.RFC3339), e.SeenAt.Format(time.RFC3339))
}

// IsOlder reports whether an error is an [*OlderError].
func IsOlder(err error) bool {
	var older *OlderError
	return errors.As(err, &older)
}

// Attributes are those of a line of the log about it.
func (e *OlderError) Attributes() []any {
	return []any{
		"newer_worker", e.Worker.String(), "newer_role", e.Role, "newer_since", e.Since.Format(time.RFC3339), "newer_seen", e.SeenAt.Format(time.RFC3339),
	}
}

// Member is one worker among all of a database. Its methods may be called by several goroutines.
type Member struct {
	id     uuid.UUID
	window time.Duration
	role   Role
	now    func() time.Time // its own time, with a monotonic reading

	mu      sync.Mutex // of what follows
	asked   uint64     // how many questions were sent to the database
	known   uint64     // the latest question that was answered
	absence absence
	older   *OlderError   // nil while not older
	changed chan struct{} // closed when the member becomes older, or ceases to be
}

// NewMember returns a member that is not older as far as it knows.
func NewMember(id uuid.UUID, window time.Duration, role Role) *Member {
	return &Member{id: id, window: window, role: role, now: time.Now, changed: make(chan struct{})}
}

// ID identifies the worker in provwatch.workers, in its log and on its status page.
func (m *Member) ID() uuid.UUID { return m.id }

// Observes reports whether the member's environment gets no generation.
func (m *Member) Observes() bool { return m.role == Observes }

// Older returns the error of an older member, nil for another.
func (m *Member) Older() *OlderError {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.older
}

// MayLead reports whether the member may lead, and wait for it.
func (m *Member) MayLead() bool { return m.Older() == nil }

// Changed is closed when what [Member.Older] returns begins or ends.
func (m *Member) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Take gives the environment of the desired providers the next generation, unless it has the
// newest. It returns the newest generation: rows that are read with another one can be those of
// another environment. With a transaction as db, the generation is recorded with all else in it.
//
// It fails with an [*OlderError] while the member is older. An observer's environment gets no
// generation, and an operator's gets one in any case.
func (m *Member) Take(ctx context.Context, db store.DBTX, h provider.Hasher, desired []provider.Desired) (newest int64, err error) {
	if m.role == Seeds && m.Older() != nil {
		if err := m.See(ctx, db, h, desired); err != nil {
			return 0, err
		}
		if older := m.Older(); older != nil {
			return 0, older
		}
	}
	standing, older, err := m.ask(ctx, db, h, desired, m.role != Observes)
	switch {
	case err != nil:
		return 0, err
	case m.role != Applies && older != nil:
		return 0, older
	}
	return standing.Newest, nil
}

// See records that the member is there, unless it observes, and updates what is known of the
// others.
func (m *Member) See(ctx context.Context, db store.DBTX, h provider.Hasher, desired []provider.Desired) error {
	_, _, err := m.ask(ctx, db, h, desired, false)
	return err
}

// ask asks the database where the environment stands, and returns the error of an older member,
// nil for another. takes gives the environment a generation before.
func (m *Member) ask(ctx context.Context, db store.DBTX, h provider.Hasher, desired []provider.Desired, takes bool) (standing store.Standing, older *OlderError, err error) {
	question := m.question()
	as := store.Attendance{Worker: m.id, Digest: h.EnvironmentDigest(desired), Window: m.window}
	switch queries := store.On(db); {
	case takes:
		standing, err = queries.TakeGeneration(ctx, as, m.role == Applies)
	case m.role == Observes:
		standing, err = queries.StandingOf(ctx, as)
	default:
		standing, err = queries.Attend(ctx, as)
	}
	if err != nil {
		return store.Standing{}, nil, err
	}
	return standing, m.see(question, standing, m.now()), nil
}

// question numbers a question to the database.
func (m *Member) question() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	return m.asked
}

// see takes over the answer to a question, unless a later one was answered before, and returns
// what follows from it.
func (m *Member) see(question uint64, s store.Standing, now time.Time) *OlderError {
	m.mu.Lock()
	defer m.mu.Unlock()
	if question < m.known {
		if s.Newer != nil && s.Newer.IsThere {
			// The questions can have reached the database in another order than they were asked in.
			return &OlderError{NewerWorker: *s.Newer, Until: s.At.Add(m.window).UTC()}
		}
		return m.older
	}
	m.known = question
	before := m.older
	absent := m.absence.see(s, now, m.window)
	switch {
	case s.Newer == nil, !s.Newer.IsThere && (before == nil || absent >= m.window):
		m.older = nil
	default:
		m.older = &OlderError{NewerWorker: *s.Newer, Until: s.At.Add(max(0, m.window-absent)).UTC()}
	}
	if (before == nil) != (m.older == nil) {
		close(m.changed)
		m.changed = make(chan struct{})
	}
	return m.older
}

// NextRefresh returns after which time the member must be seen again: several times in a window,
// and when it can cease to be older.
func (m *Member) NextRefresh() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.window / refreshes
	if m.older == nil {
		return next
	}
	return max(min(next, m.window-m.absence.lasted), m.window/(refreshes*refreshes))
}
