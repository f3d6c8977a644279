package daemon

import (
	"context"
	"log/slog"
	"time"

	"provwatch/internal/leader"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/verify"
)

const (
	// firstReturn and maxReturn bound the wait before --source=auto tries the WAL again that
	// it fell back from.
	firstReturn = 5 * time.Second
	maxReturn   = 5 * time.Minute
)

// sources are where a leader's alerts come from, one source at a time: the WAL, and
// notifications where that is the mode, or while the WAL cannot be read. It belongs to the
// goroutine of the [participant].
type sources struct {
	mode          SourceMode
	maxBackOff    time.Duration
	wal           *walSource
	notifications *notifySource
	leadership    *leadership
	verifications *verifications
	logger        *slog.Logger
}

// run publishes alerts from a source until ctx ends with the term. first is the source of
// the verification that it begins with.
func (s *sources) run(ctx context.Context, term *leader.Term, first pubsub.Source) {
	if s.mode == NotifySource {
		s.notifications.run(ctx, term, first, "", 0)
		return
	}
	for attempt := range s.returns().Attempts(ctx) {
		err := s.wal.run(ctx, term, first)
		if err == nil {
			return
		}
		wait, _ := attempt.Failed()
		// Where another source is in use already, that was an attempt to return to the WAL:
		// what it has verified stands.
		if !s.leadership.currentSource().replacesWAL() {
			s.verifications.Verified(ctx, verify.Request{All: true}, err)
		}
		if s.mode == AutoSource {
			s.notifications.run(ctx, term, pubsub.SourceResync, err.Error(), wait)
			attempt.Waited()
			first = pubsub.SourceResync
			continue
		}
		s.logger.ErrorContext(ctx, "the WAL cannot be read, retrying", "error", err, "retry_in", wait)
	}
}

// returns is how to retry reading the WAL. A WAL that was read for long fails for the first
// time in a row. Without another source the worker is not ready meanwhile.
func (s *sources) returns() retry.Policy {
	if s.mode == WALSource {
		return retry.Policy{First: min(firstReturn, s.maxBackOff), Max: s.maxBackOff, Steady: maxReturn}
	}
	return retry.Policy{First: firstReturn, Max: maxReturn, Steady: maxReturn}
}
