package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/leader"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/schema"
	"provwatch/internal/verify"
	"provwatch/internal/wal"
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
			s.verifications.ended(ctx, verify.Request{All: true}, err)
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

// sourceSwitch records and publishes which source alerts come from.
type sourceSwitch struct {
	leadership *leadership
	publisher  *publisher
	metrics    *instruments
	report     *report
	logger     *slog.Logger
}

// use switches to the source, for a reason where it is not the first choice.
func (s *sourceSwitch) use(ctx context.Context, source SourceMode, reason string) {
	if !s.leadership.setSource(source) {
		return
	}
	s.metrics.SourceUsed(string(source))
	s.report.describe()
	if reason == "" {
		s.logger.InfoContext(ctx, "alerts come from this source now", "source", string(source))
	} else {
		s.logger.WarnContext(ctx, "alerts come from this source instead", "source", string(source), "reason", reason)
	}
	s.publisher.publish(ctx, pubsub.EventSource, reason)
}

// lacksForWAL returns which privileges the role lacks for the WAL and not for notifications:
// a reason to fall back. A lost connection is no reason: with the slot, what was changed meanwhile
// would be given up for it. A session meets it again, and waits for it to pass.
func lacksForWAL(ctx context.Context, pool *pgxpool.Pool) error {
	var lacking *schema.UnusableError
	err := schema.CheckPrivileges(ctx, pool, schema.WAL)
	if !errors.As(err, &lacking) || schema.CheckPrivileges(ctx, pool, schema.Notifications) != nil {
		return nil
	}
	return err
}

// mustUnpublish reports whether the publication makes writing to the provider tables fail.
func mustUnpublish(err error) bool {
	var unusable *wal.UnusableError
	return errors.As(err, &unusable) && unusable.Unpublish
}
