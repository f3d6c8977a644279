package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/store"
)

const (
	// restTurns is for how many turns a leader that has resigned leaves the lock to others.
	restTurns = 2
	// refusedPause is the wait before the elector retries what the server refused.
	refusedPause = time.Second
	// cancelTimeout bounds the end of a turn that is cancelled.
	cancelTimeout = time.Second
)

// resignation is a term that is given up, and for how long other standbys come first.
type resignation struct {
	term  *Term
	yield time.Duration
	// stepsDown is set where the session goes on.
	stepsDown bool
}

// Candidate decides whether its worker may lead.
type Candidate interface {
	// MayLead is called by the listener's goroutine, at each turn of a standby.
	MayLead() bool
	// Refresh asks the database, by the session, what MayLead depends on. It is called before a
	// term begins: a session that waits in the server gets no notification.
	Refresh(ctx context.Context, conn *pgx.Conn) error
}

// Elector stands by and leads by a listening session, and hands out each [Term]. It belongs
// to the goroutine of the listener, apart from [Elector.Terms], [Elector.Resign] and
// [Elector.StepDown], which any goroutine can call.
type Elector struct {
	limits    Limits
	logger    *slog.Logger
	observer  Observer
	candidate Candidate  // nil where the worker always may lead
	terms     chan *Term // of capacity 1; the listener's goroutine sends
	// resigned is the latest resignation: [Elector.Resign] writes it, the listener's
	// goroutine reads it.
	resigned atomic.Pointer[resignation]

	// What follows is of the listener's goroutine alone.

	attended bool // by the current session

	// While standing by: what was seen of the leader, and who holds its lock, once its
	// silence was reported.
	sightings  sightings
	lockHolder lockwait.Holder

	// While leading; term is nil while standing by.
	term   *Term
	signs  signs
	intact bool // a worker was seen to have written the row of the terms last, in this term

	// Until restUntil the elector does nothing, so that another session gets the lock. Until
	// yieldUntil it does not wait in the server.
	restUntil, yieldUntil time.Time
}

// signs are the signs of life that a leader shows in one term.
type signs struct {
	series int32     // of the latest one, see [beatNumber]
	shown  int32     // the number that the session shows, -1 for none
	due    time.Time // when the next one is due
}

// NewElector returns an elector; a listener calls its methods.
func NewElector(limits Limits, logger *slog.Logger, observer Observer) *Elector {
	return &Elector{limits: limits, logger: logger, observer: observer, terms: make(chan *Term, 1)}
}

// Ask makes the elector ask a candidate, before it waits to lead and before it leads. It is called
// before the first session.
func (e *Elector) Ask(candidate Candidate) { e.candidate = candidate }

func (e *Elector) mayLead() bool { return e.candidate == nil || e.candidate.MayLead() }

// mayBegin reports whether the worker may lead as the database has it now. Where the server
// refuses the question, what was known before counts.
func (e *Elector) mayBegin(ctx context.Context, conn *pgx.Conn) (bool, error) {
	if e.candidate == nil {
		return true, nil
	}
	limited, cancel := context.WithTimeout(ctx, e.limits.answer)
	defer cancel()
	if err := e.candidate.Refresh(postgres.Expect(limited, e.limits.answer/2), conn); err != nil && !isRefusal(err, conn) {
		return false, fmt.Errorf("ask whether this worker may lead: %w", err)
	}
	return e.candidate.MayLead(), nil
}

// Terms receives each term when it begins. A term that was not received is dropped when
// the next begins.
func (e *Elector) Terms() <-chan *Term { return e.terms }

// Attend does what is due on the listening session, and returns after which time the
// caller must call it again. A standby waits in it, for a turn. After an error the caller
// must give the session up.
func (e *Elector) Attend(ctx context.Context, conn *pgx.Conn) (next time.Duration, err error) {
	if e.term != nil {
		return e.lead(ctx, conn)
	}
	if rest := time.Until(e.restUntil); rest > 0 {
		return rest, nil
	}
	turn := e.limits.turn
	yields := time.Now().Before(e.yieldUntil)
	if yields || !e.attended {
		// To know before the session counts as listening.
		e.attended, turn = true, time.Millisecond
	}
	next, err = e.standBy(ctx, conn, turn)
	if yields && next == 0 && err == nil && e.term == nil {
		next = e.limits.turn
	}
	return next, err
}

// Resign ends the term by ending its session, soon after. For the time of yield every
// other standby comes first. The caller has ended what it did in the term.
func (e *Elector) Resign(term *Term, yield time.Duration) {
	e.resigned.Store(&resignation{term: term, yield: yield})
}

// StepDown ends the term with the next sign of life at the latest. The session stays, and stands
// by from then on. The caller has ended what it did in the term.
func (e *Elector) StepDown(term *Term) {
	e.resigned.Store(&resignation{term: term, stepsDown: true})
}

// Left ends the term of the session, if it leads. The next session stands by.
func (e *Elector) Left(cause error) {
	e.attended = false
	if e.term != nil {
		e.term.end(cause)
		e.term = nil
	}
}

// standBy does one turn, and begins the next term if the leader has ended, or shows no
// sign of life. Where the worker must not lead, it only looks.
func (e *Elector) standBy(ctx context.Context, conn *pgx.Conn, turn time.Duration) (next time.Duration, err error) {
	queues := e.mayLead()
	var stood store.StandByRow
	if queues {
		stood, err = e.wait(ctx, conn, turn)
	} else {
		stood, err = e.look(ctx, conn)
		next = e.limits.turn
	}
	switch {
	case isRefusal(err, conn):
		e.observer.NoLeader(err)
		return refusedPause, nil
	case err != nil:
		return 0, err
	}
	e.observer.AlertsSeen(stood.Epoch, stood.LastSeq)
	if stood.Ended {
		if may, err := e.mayBegin(ctx, conn); err != nil {
			return 0, err
		} else if !may {
			return 0, e.leave(ctx, conn, stood.Term)
		}
		return e.begin(ctx, conn, stood.Term, true)
	}
	e.sightings.see(sighting{Term: stood.Term, Leader: stood.Leader, Beat: stood.Beat}, time.Now(), 2*e.limits.turn+e.limits.answer)
	seen := Seen{Term: stood.Term, PID: stood.Leader}
	if stood.VerifiedAt != nil {
		seen.VerifiedAt = stood.VerifiedAt.UTC()
	}
	e.observer.LeaderSeen(seen)
	silent, limit := e.sightings.silentFor(), max(e.limits.silentAfter, e.sightings.seen.interval()*signsMissed/2)
	if e.sightings.seen.Leader == 0 || e.sightings.seen.isStranger() {
		limit = e.limits.strangerAfter
	}
	if silent < limit {
		e.observer.NoLeader(nil)
		return next, nil
	}
	e.lockHolder = e.describe(ctx, conn)
	e.observer.NoLeader(e.sightings.seen.silence(silent, e.lockHolder))
	if !queues || !e.sightings.isOverdue(max(e.limits.takeOverAfter, e.sightings.seen.interval()*signsMissed)) {
		return next, nil
	}
	if may, err := e.mayBegin(ctx, conn); err != nil || !may {
		return next, err
	}
	return e.begin(ctx, conn, e.sightings.seen.Term, false)
}

// describe describes who holds the leader's lock: a prepared transaction, or a session that
// is no worker's. Of a worker's session it knows the process alone.
func (e *Elector) describe(ctx context.Context, conn *pgx.Conn) lockwait.Holder {
	limited, cancel := context.WithTimeout(ctx, e.limits.answer)
	defer cancel()
	// After an error only the process is known; a session that is lost shows in the next turn.
	if e.sightings.seen.Leader == 0 {
		holders, err := lockwait.OfLeadersLock(limited, conn)
		if err == nil && len(holders) > 0 && holders[0].Prepared != "" {
			return holders[0]
		}
	}
	if e.sightings.seen.isStranger() {
		if session, err := lockwait.Session(limited, conn, e.sightings.seen.Leader); err == nil {
			return session
		}
	}
	return lockwait.Holder{PID: e.sightings.seen.Leader}
}

// wait waits in the server until the leader has ended, for one turn, or until ctx ends.
func (e *Elector) wait(ctx context.Context, conn *pgx.Conn, turn time.Duration) (store.StandByRow, error) {
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), turn+e.limits.answer)
	// The server ends the turn, without an ERROR in its log; should it not answer, the
	// connection is given up.
	interrupted := make(chan struct{})
	interrupt := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		cancelling, done := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer done()
		if conn.PgConn().CancelRequest(cancelling) == nil {
			select {
			case <-waiting.Done():
			case <-cancelling.Done():
			}
		}
		cancel()
	})
	defer func() {
		cancel()
		if !interrupt() {
			<-interrupted
		}
	}()
	stood, err := store.On(conn).StandBy(postgres.Bounded(postgres.Expect(waiting, turn+e.limits.answer/4), turn+e.limits.answer), int32(turn/time.Millisecond))
	switch {
	case ctx.Err() != nil && isRefusal(err, conn): // the cancellation came before or after the wait itself
		return stood, ctx.Err()
	case err != nil:
		return stood, fmt.Errorf("stand by for the leader: %w", err)
	}
	return stood, ctx.Err()
}

// look is [Elector.wait] that neither waits for the lock nor takes it.
func (e *Elector) look(ctx context.Context, conn *pgx.Conn) (store.StandByRow, error) {
	limited, cancel := context.WithTimeout(ctx, e.limits.answer)
	defer cancel()
	seen, err := store.On(conn).SeeLeader(postgres.Expect(limited, e.limits.answer/2))
	if err != nil {
		return store.StandByRow{}, fmt.Errorf("look for the leader: %w", err)
	}
	return store.StandByRow{Term: seen.Term, Leader: seen.Leader, Beat: seen.Beat, Epoch: seen.Epoch, LastSeq: seen.LastSeq, VerifiedAt: seen.VerifiedAt}, nil
}

// leave leaves the lock of a term, which this session has got, to another worker.
func (e *Elector) leave(ctx context.Context, conn *pgx.Conn, former int64) error {
	limited, cancel := context.WithTimeout(ctx, e.limits.answer)
	defer cancel()
	if err := store.On(conn).ReleaseTerm(limited, former); err != nil {
		return fmt.Errorf("leave the leadership to another worker: %w", err)
	}
	return nil
}

// begin begins the term after the former one, unless another session has. The term is
// sent before its first sign of life. Where the server refuses it, as in a database that
// is read-only, the caller retries after next.
func (e *Elector) begin(ctx context.Context, conn *pgx.Conn, former int64, waited bool) (next time.Duration, err error) {
	limited, cancel := context.WithTimeout(ctx, e.limits.answer)
	defer cancel()
	begun, err := store.On(conn).BeginTerm(postgres.Expect(limited, e.limits.answer/2), store.BeginTermParams{Former: former, Waited: waited})
	switch {
	case isRefusal(err, conn):
		e.observer.NoLeader(fmt.Errorf("begin to lead: %w", err))
		next = refusedPause
	case err != nil:
		return 0, fmt.Errorf("begin to lead: %w", err)
	}
	if len(begun) == 0 {
		if waited {
			return next, e.leave(ctx, conn, former)
		}
		return next, nil
	}
	if !waited {
		who := []any{"leader_session", e.sightings.seen.Leader}
		if e.lockHolder.Prepared != "" {
			who = []any{"prepared_transaction", e.lockHolder.Prepared, "remedy", e.lockHolder.Remedy()}
		}
		e.logger.WarnContext(ctx, "taking over from a leader that shows no sign of life",
			append(who, "former_term", former, "silent_for", e.sightings.silentFor().Round(time.Second).String())...)
	}
	if !begun[0].Locked {
		e.logger.WarnContext(ctx, "another session holds the lock of the term that begins: standbys take over from this worker each time that they see no leader",
			"term", begun[0].Term)
	}
	t := &Term{Number: begun[0].Term, PID: uint32(begun[0].Pid), listening: make(chan struct{})}
	t.ctx, t.end = context.WithCancelCause(context.WithoutCancel(ctx))
	e.term = t
	e.sightings = sightings{}
	e.intact = false
	// Not the number of a former leader, whose session may still show it.
	e.signs = signs{series: rand.Int32(), shown: -1}
	e.observer.NoLeader(nil)
	select {
	case <-e.terms: // it has ended, and was not received
	default:
	}
	e.terms <- t
	return 0, nil
}

// isRefusal reports whether the server has refused a statement, and the session goes on:
// the database is read-only, say, or was dropped and made again.
func isRefusal(err error, conn *pgx.Conn) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && !conn.IsClosed()
}

// lead shows a sign of life when it is due.
func (e *Elector) lead(ctx context.Context, conn *pgx.Conn) (next time.Duration, err error) {
	select {
	case <-e.term.listening:
	default:
		close(e.term.listening) // since the session has attended before
	}
	if r := e.resigned.Load(); r != nil && r.term == e.term {
		if r.stepsDown {
			return 0, e.stepDown(ctx, conn)
		}
		now := time.Now()
		e.restUntil, e.yieldUntil = now.Add(restTurns*e.limits.turn), now.Add(r.yield)
		return 0, ErrResigned
	}
	if wait := time.Until(e.signs.due); wait > 0 {
		return wait, nil
	}
	limited, cancel := context.WithTimeout(ctx, e.limits.answer)
	defer cancel()
	e.signs.series++
	number := beatNumber(e.signs.series, e.limits.beatInterval)
	shown, err := store.On(conn).Beat(postgres.Expect(limited, e.limits.answer/2), store.BeatParams{Next: number, Previous: e.signs.shown})
	if err != nil {
		return 0, fmt.Errorf("show a sign of life: %w", err)
	}
	if e.signs.shown = -1; shown.Beats {
		e.signs.shown = number
	}
	e.signs.due = time.Now().Add(e.limits.beatInterval)
	if shown.Term != e.term.Number {
		// The lock of its own term is of no use to anybody, and goes with the session.
		return 0, store.ErrLaterTerm
	}
	if e.intact && !shown.Intact {
		return 0, ErrReplaced
	}
	e.intact = shown.Intact
	e.observer.AlertsSeen(shown.Epoch, shown.LastSeq)
	return e.limits.beatInterval, nil
}

// stepDown ends the term, and takes back on the session what the leader had there.
func (e *Elector) stepDown(ctx context.Context, conn *pgx.Conn) error {
	limited, cancel := context.WithTimeout(ctx, e.limits.answer)
	defer cancel()
	err := store.On(conn).StepDown(postgres.Expect(limited, e.limits.answer/2), store.StepDownParams{Term: e.term.Number, Shown: e.signs.shown})
	if err != nil {
		return fmt.Errorf("step down: %w", err)
	}
	e.term.end(ErrSteppedDown)
	e.term = nil
	return nil
}
