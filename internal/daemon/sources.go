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
	back := s.returns()
	for ctx.Err() == nil {
		began := time.Now()
		err := s.wal.run(ctx, term, first)
		if err == nil {
			return
		}
		if time.Since(began) > maxReturn {
			back.Reset()
		}
		// Where notifications are the source already, that was an attempt to return to the
		// WAL: what they have verified stands.
		if s.leadership.currentSource() != NotifySource {
			s.verifications.Verified(ctx, verify.Request{All: true}, err)
		}
		wait := back.Next()
		if s.mode == AutoSource {
			s.notifications.run(ctx, term, pubsub.SourceResync, err.Error(), wait)
			first = pubsub.SourceResync
			continue
		}
		s.logger.ErrorContext(ctx, "the WAL cannot be read, retrying", "error", err, "retry_in", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// returns is how long to wait before the next attempt to read the WAL. Without another source the
// worker is not ready meanwhile.
func (s *sources) returns() *retry.Backoff {
	if s.mode == WALSource {
		return retry.Policy{First: min(firstReturn, s.maxBackOff), Max: s.maxBackOff}.Backoff()
	}
	return retry.Policy{First: firstReturn, Max: maxReturn}.Backoff()
}
