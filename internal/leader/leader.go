// Package leader decides which of a database's workers records and publishes. The
// others stand by.
//
//	            session                    term begun
//	absent ───────────────▶ standing by ────────────────▶ leading
//	   ▲                     │       ▲                       │
//	   │      session lost   │       │  a later term,        │
//	   │                     │       │  or stepped down      │
//	   ◀─────────────────────┘       └───────────────────────┤
//	   │                       session lost, or resigned     │
//	   ◀─────────────────────────────────────────────────────┘
//
// Leadership comes in terms, which are numbered in provwatch.alert_counter. A statement
// that records names its term, and the database refuses it when there is a later term.
//
// The leader of a term holds an advisory lock of the term in its listening session. A
// standby waits for that lock inside the server, in turns. It begins the next term as
// soon as it has the lock: when the leader's session ends, however it ends.
//
// A leader that is frozen, or whose host has vanished, keeps its session and the lock. So
// a leader also shows signs of life: an advisory lock whose number changes. Every role can
// see it, and it writes nothing. A standby counts the turns and the time, by its own
// monotonic clock, in which the sign stays the same. After the limits of [NewLimits] it
// begins the next term although the lock is held. Nothing ends the former leader; should
// it go on, the server's answer to its next sign of life shows it the later term.
//
// A leader that cannot do its work can resign while another session waits. Its session
// ends, and with it the lock. For a while it then stands by without waiting in the server:
// any other standby comes before it, and it leads again only when there is no leader.
//
// A [Candidate] can keep its worker from leading: from waiting in the server, from taking the
// lock that is free, and from taking over. The session then only looks at the leader. A leader
// that may no longer lead steps down: it releases the lock, and its session goes on.
package leader

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/store"
)

// TakeOverAfter is the default time without a sign of life after which a standby takes over.
// MinTakeOverAfter is the least that leaves room for such signs.
const (
	TakeOverAfter    = 30 * time.Second
	MinTakeOverAfter = 3 * time.Second
)

// Observer gets what a session sees, on the goroutine that calls [Elector.Attend].
type Observer interface {
	// NoLeader gets why this worker neither leads nor sees a live leader, nil when it does.
	NoLeader(err error)
	// LeaderSeen gets what each turn of a standby sees of the leader.
	LeaderSeen(seen Seen)
	// AlertsSeen gets how far the sequence of alerts has got, at each turn or sign of life.
	AlertsSeen(epoch uuid.UUID, lastSeq int64)
}

// Seen is what a turn of a standby has seen of the leader.
type Seen struct {
	Term int64
	PID  int32 // the server's process that holds the lock of the term, 0 for none
	// VerifiedAt is when a leader has last verified everything, by the server's clock; zero
	// for never.
	VerifiedAt time.Time
}

// maxTurn is how long a standby waits in the server at most, since it holds a
// snapshot meanwhile, and notifications reach it between its turns alone.
const maxTurn = 5 * time.Second

// Limits are how long an [Elector] waits.
type Limits struct {
	turn          time.Duration // of a standby
	beatInterval  time.Duration // between two signs of life
	silentAfter   time.Duration // without one the standby reports it
	strangerAfter time.Duration // the same of a session that has never shown one
	takeOverAfter time.Duration
	answer        time.Duration // for a statement that waits for nothing
}

// NewLimits returns limits by which a standby takes over after the time takeOverAfter without
// a sign of life. It sends a statement in each interval of probe, and gives the session up
// after the time of answer without an answer.
func NewLimits(takeOverAfter, probe, answer time.Duration) Limits {
	sign := takeOverAfter / 6
	return Limits{
		turn:         min(maxTurn, sign, probe),
		beatInterval: min(maxTurn, sign),
		silentAfter:  takeOverAfter / 2, strangerAfter: sign, takeOverAfter: takeOverAfter, answer: answer,
	}
}

// HasWorker reports whether a worker listens, leading or not, as far as any role can see. Each
// that does delivers audit entries.
func HasWorker(ctx context.Context, db store.DBTX) (bool, error) {
	sessions, err := store.On(db).ListWorkers(ctx, 1)
	if err != nil {
		return false, fmt.Errorf("look for a worker that listens: %w", err)
	}
	return len(sessions) > 0, nil
}
