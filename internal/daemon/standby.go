package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/leader"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// standbyPause is the least time between two verifications of a standby.
const standbyPause = time.Second

// standby verifies without publishing. So its connections, caches and errors are those of a
// worker that is ready to lead, and it sees whether the leader records what it finds. It
// belongs to the goroutine of the [participant].
type standby struct {
	worker        uuid.UUID
	takeOverAfter time.Duration
	pool          *pgxpool.Pool
	elector       *leader.Elector
	pending       *verify.Queue
	verifier      *verify.Verifier
	verifications *verifications
	check         *leaderCheck
	health        *health
	liveness      *liveness
	logger        *slog.Logger

	logged logDedup
}

// run stands by. It returns the term when it begins, and false when ctx ends.
func (s *standby) run(ctx context.Context) (*leader.Term, bool) {
	defer s.liveness.take()()
	defer s.check.end()
	turns := standbyTurns{standby: s, unrecorded: unrecordedTransitions{limit: s.takeOverAfter * 3 / 2}}
	for ctx.Err() == nil {
		if term := turns.next(ctx); term != nil {
			return term, true
		}
	}
	return nil, false
}

// standbyTurns are the turns of a standby until one term begins.
type standbyTurns struct {
	standby    *standby
	unrecorded unrecordedTransitions

	pause     <-chan time.Time // until the next verification can begin, nil for none
	again     <-chan time.Time // until the unrecorded drifts are verified again, nil for none
	announced bool             // that this worker stands by was logged
}

// next waits for something to do and does it. It returns the term when it begins.
func (t *standbyTurns) next(ctx context.Context) *leader.Term {
	// Leading comes first: the leader then verifies the pending requests.
	if term := t.begun(); term != nil {
		return term
	}
	ready := t.standby.pending.Ready()
	if t.pause != nil {
		ready = nil
	}
	if t.again == nil && len(t.unrecorded.since) > 0 {
		t.again = time.After(t.unrecorded.limit / 3)
	}
	select {
	case <-ctx.Done():
	case term := <-t.standby.elector.Terms():
		return term
	case <-t.pause:
		t.pause = nil
	case <-t.again:
		t.again = nil
		return t.verifyUnrecorded(ctx)
	case <-ready:
		return t.verifyPending(ctx)
	}
	return nil
}

// begun returns the term that has begun, nil for none.
func (t *standbyTurns) begun() *leader.Term {
	select {
	case term := <-t.standby.elector.Terms():
		return term
	default:
		return nil
	}
}

// verifyUnrecorded verifies whether the leader has recorded meanwhile what it had not.
func (t *standbyTurns) verifyUnrecorded(ctx context.Context) *leader.Term {
	names := t.unrecorded.names()
	term, found, err := t.untilTerm(ctx, func(ctx context.Context) ([]verify.Transition, error) {
		return t.standby.verifier.StillUnrecorded(ctx, names)
	})
	if term == nil && ctx.Err() == nil && err == nil {
		t.unrecorded.see(found, names, time.Now())
		t.standby.check.reportUnrecorded(ctx, &t.unrecorded)
	}
	return term
}

// verifyPending verifies what is pending. When a term begins meanwhile, that is left to the
// leader.
func (t *standbyTurns) verifyPending(ctx context.Context) *leader.Term {
	s := t.standby
	// A session tries to lead before it counts as listening: a session that listens here, and
	// has no term, stands by.
	listens := s.health.listens()
	if term := t.begun(); term != nil {
		return term
	}
	if listens && !t.announced {
		s.announce(ctx)
		t.announced = true
	}
	request, ok := s.pending.Get()
	if !ok {
		return nil
	}
	term, found, err := t.untilTerm(ctx, func(ctx context.Context) ([]verify.Transition, error) {
		return s.verifier.Unrecorded(ctx, request)
	})
	if term != nil {
		s.pending.Retry(request)
		return term
	}
	if ctx.Err() != nil {
		s.pending.Retry(request)
		return nil
	}
	s.verifications.Verified(ctx, request, err)
	s.logged.warnRetry(ctx, s.logger, "verification failed, retrying", err, standbyPause)
	if err != nil {
		s.pending.Retry(request)
	} else {
		s.pending.Done()
	}
	t.unrecorded.see(found, nil, time.Now())
	t.pause = time.After(standbyPause)
	return nil
}

// untilTerm verifies without publishing, and breaks that off when a term begins meanwhile,
// which it then returns. A verification can wait for minutes, in which no other worker leads.
func (t *standbyTurns) untilTerm(ctx context.Context, find func(context.Context) ([]verify.Transition, error)) (*leader.Term, []verify.Transition, error) {
	type result struct {
		found []verify.Transition
		err   error
	}
	results := make(chan result, 1)
	var finder conc.WaitGroup
	defer finder.Wait()
	finding, cancel := context.WithCancel(ctx)
	defer cancel() // before it is waited for
	finder.Go(func() {
		found, err := find(finding)
		results <- result{found, err}
	})
	select {
	case term := <-t.standby.elector.Terms():
		return term, nil, nil
	case r := <-results:
		return nil, r.found, r.err
	}
}

// announce logs that this worker stands by, and for which session, where that is known.
func (s *standby) announce(ctx context.Context) {
	logger := s.logger
	workers, err := store.On(s.pool).ListWorkers(ctx, 1)
	// The leader comes first.
	if err == nil && len(workers) > 0 && workers[0].Leads {
		leader := workers[0]
		logger = logger.With("leader_session", leader.Pid, "leader_role", leader.Role)
		if leader.Address != "" {
			logger = logger.With("leader_address", leader.Address)
		}
		if leader.BackendStart != nil {
			logger = logger.With("leader_since", leader.BackendStart.UTC().Format(time.RFC3339))
		}
	}
	logger.InfoContext(ctx, "standing by until the leader ends", "worker", s.worker.String())
}
