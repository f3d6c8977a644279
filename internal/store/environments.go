package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Attendance is that a worker is there, with an environment.
type Attendance struct {
	Worker uuid.UUID
	Digest string // of the environment, see [provider.Hasher.EnvironmentDigest]
	// Window is for how long a worker counts as there after it was seen.
	Window time.Duration
}

// Standing is where an environment stands among the recorded ones
// (docs/specification.md, section 4).
type Standing struct {
	// Newest is the newest generation that is recorded, and Own that of the environment, each 0
	// for none.
	Newest, Own int64
	// Newer is the worker with a newer environment that was seen last, nil for none.
	Newer *NewerWorker
	At    time.Time // by the database's clock
}

// NewerWorker is a worker with a newer environment.
type NewerWorker struct {
	Worker     uuid.UUID
	Role       string // that it logged in as
	Generation int64
	Since      time.Time // when its environment was recorded
	SeenAt     time.Time
	IsThere    bool // it was seen within the window
}

// StandingOf returns where the environment of a worker stands, and records nothing.
func (q *Queries) StandingOf(ctx context.Context, a Attendance) (Standing, error) {
	found, err := q.seeEnvironments(ctx, seeEnvironmentsParams{WindowMs: a.Window.Milliseconds(), Digest: a.Digest})
	if err != nil {
		return Standing{}, fmt.Errorf("read provwatch.environments: %w", err)
	}
	return found.standing(), nil
}

// Attend records that a worker is there, and returns where its environment stands.
func (q *Queries) Attend(ctx context.Context, a Attendance) (Standing, error) {
	return q.attend(ctx, attendEnvironmentsParams{WindowMs: a.Window.Milliseconds(), Digest: a.Digest, Worker: a.Worker})
}

// TakeGeneration is [Queries.Attend] that gives the environment the next generation, unless it
// has the newest. An environment that is older than that of a worker which is there gets none,
// unless forced.
func (q *Queries) TakeGeneration(ctx context.Context, a Attendance, forced bool) (Standing, error) {
	return q.attend(ctx, attendEnvironmentsParams{WindowMs: a.Window.Milliseconds(), Digest: a.Digest, Worker: a.Worker, Takes: true, Forced: forced})
}

func (q *Queries) attend(ctx context.Context, params attendEnvironmentsParams) (Standing, error) {
	found, err := q.attendEnvironments(ctx, params)
	if err != nil {
		return Standing{}, fmt.Errorf("record the worker and its environment: %w", err)
	}
	return seeEnvironmentsRow(found).standing(), nil
}

func (row seeEnvironmentsRow) standing() Standing {
	s := Standing{Newest: row.Newest, Own: row.Own, At: row.At}
	if row.Generation > 0 {
		s.Newer = &NewerWorker{
			Worker: row.Worker, Role: row.Role, Generation: row.Generation, Since: row.RecordedAt.UTC(), SeenAt: row.SeenAt.UTC(), IsThere: row.IsThere,
		}
	}
	return s
}

// ForgetWorkers forgets the workers that were last seen more than a day ago.
func (q *Queries) ForgetWorkers(ctx context.Context) error {
	if err := q.forgetWorkers(ctx); err != nil {
		return fmt.Errorf("delete from provwatch.workers: %w", err)
	}
	return nil
}
