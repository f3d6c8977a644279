package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

const (
	// patience is how long sessions may fail before another source is to be used.
	patience = 20 * time.Second
)

// SlotStatus is how the slot stands.
type SlotStatus struct {
	RetainedBytes int64
	WALStatus     string // as in pg_replication_slots
}

// Metrics receives what a [Reader] measures.
type Metrics interface {
	SlotObserved(SlotStatus)
	TransactionsHandled(n int)
}

// Host is the worker that a [Reader] reads for.
type Host interface {
	// Publish ensures the publication.
	Publish(ctx context.Context) error
	// Streaming is called on a goroutine of its own each time that the stream has begun,
	// with a context that ends with it.
	Streaming(ctx context.Context)
	// Verified gets the result of each verification.
	Verified(request verify.Request, err error)
}

// Reader reads the WAL and records what it shows, while it runs the only one to
// do so.
type Reader struct {
	Pool     *pgxpool.Pool
	Config   *pgx.ConnConfig // of the replication connection
	Verifier *verify.Verifier
	Keys     *dbcrypt.Ring // nil: encrypted settings cannot be decoded
	// Pending holds what else must be verified: resyncs, reloads, hints.
	Pending *verify.Queue
	// MaxLag is how many bytes of WAL the slot may retain before it is given up;
	// 0 means no limit.
	MaxLag int64
	// MaxBackOff bounds the wait between attempts to stream again, before jitter.
	MaxBackOff time.Duration
	Logger     *slog.Logger
	Metrics    Metrics
	Host       Host
	// Fallback makes Run give up, with an [*UnusableError], when nothing but
	// connecting has failed for [patience].
	Fallback bool
	// Term is that of this worker's leadership.
	Term *leader.Term

	gap    string // why the next session must start with a new slot
	warned bool   // that the slot retains much; of the session
}

// gapError ends a session whose slot is lost or must be given up: the next one
// starts with a new slot.
type gapError struct{ reason string }

func (e *gapError) Error() string { return e.reason }

// Run reads the WAL until ctx ends, and streams again after every failure that
// may pass. It returns an [*UnusableError] when the slot cannot be used as the
// server is, and nil when ctx ends. first is the source of the verification
// that the first session begins with.
func (s *Reader) Run(ctx context.Context, first pubsub.Source) error {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval = 50 * time.Millisecond
	retry.MaxInterval = s.MaxBackOff
	source := first
	var failing time.Time   // since when sessions fail for other reasons than connecting
	level := slog.LevelWarn // of the first failure, and not of those that follow it
	progress := func() {
		retry.Reset()
		level = slog.LevelWarn
		failing = time.Time{}
	}
	for {
		// A connection that fails is made anew; so is everything that the session
		// knows, from what is stored: there is one way to start.
		err := s.session(ctx, source, progress)
		if ctx.Err() != nil {
			return nil
		}
		source = pubsub.SourceResync
		switch {
		case postgres.IsConnectionLoss(err) && asFull(err) == nil, isShort(err), pubsub.IsQueueFull(err),
			schema.IsDenied(err) && schema.CheckPrivileges(ctx, s.Pool, schema.Notifications) != nil:
			// Another source would do no better.
			failing = time.Time{}
		case failing.IsZero():
			failing = time.Now()
		case s.Fallback && time.Since(failing) > patience:
			return &UnusableError{Reason: fmt.Sprintf("it has failed for %s; see the log", patience), Err: err}
		}
		if full := asFull(err); full != nil && (!s.Fallback || !s.mayHaveSlot(ctx)) {
			return full
		}
		var gap *gapError
		if errors.As(err, &gap) {
			s.Logger.WarnContext(ctx, "replication slot given up", "reason", gap.reason)
			s.gap = gap.reason
		} else if unusable := asUnusable(err); unusable != nil {
			return unusable
		} else if held := asHeld(err); held != nil && s.Fallback {
			return held
		} else {
			s.Host.Verified(verify.Request{All: true, Source: source}, err)
		}
		wait := retry.NextBackOff()
		s.Logger.Log(ctx, level, "replication stream ended, starting it again", "error", err, "retry_in", wait)
		level = slog.LevelInfo
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// asFull returns the error of a server that has no room for another replication slot or
// session, nil for another: it can pass by itself.
func asFull(err error) *UnusableError {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return nil
	}
	// Messages are translated, but for the names of settings. The code is also that of a
	// server, database or role without room for sessions of any kind.
	if pg.Code == pgerrcode.ConfigurationLimitExceeded || pg.Code == pgerrcode.TooManyConnections && strings.Contains(pg.Message, "max_wal_senders") {
		return &UnusableError{Reason: "all replication slots or walsenders are in use; raise max_replication_slots and max_wal_senders", Err: err}
	}
	return nil
}

// asHeld returns the error of a slot whose holder does not end, nil for another.
func asHeld(err error) *UnusableError {
	var held *HeldError
	if !errors.As(err, &held) {
		return nil
	}
	return &UnusableError{Reason: held.Error()}
}

// isShort reports whether the server has too little disk or memory for what was asked.
func isShort(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == pgerrcode.DiskFull || pg.Code == pgerrcode.OutOfMemory)
}

// mayHaveSlot reports whether there is, or may be, something to lose by giving the WAL up.
func (s *Reader) mayHaveSlot(ctx context.Context) bool {
	_, err := store.On(s.Pool).ReadWALPosition(ctx)
	return !errors.Is(err, pgx.ErrNoRows)
}

// asUnusable tells failures that waiting does not mend from those that pass. A
// privilege on a table that is denied is none: another source would lack it too.
func asUnusable(err error) *UnusableError {
	var unusable *UnusableError
	if errors.As(err, &unusable) {
		return unusable
	}
	var pg *pgconn.PgError
	var schemaError *schema.UnusableError
	switch {
	case errors.As(err, &schemaError) && !postgres.IsConnectionLoss(err):
		return &UnusableError{Reason: "the publication cannot be made sure of", Err: err}
	case !errors.As(err, &pg), postgres.IsLoginRefused(err): // as in a rotation, of all connections
		return nil
	}
	switch {
	case pg.Code == pgerrcode.InvalidAuthorizationSpecification:
		return &UnusableError{Reason: "the role may not open a replication connection; pg_hba.conf must let it", Err: err}
	case pg.Code == pgerrcode.FeatureNotSupported && pg.Routine == "", pg.Code == pgerrcode.ProtocolViolation && strings.Contains(pg.Message, "replication"):
		// As of a pooler, which refuses the parameter of that name. The server's own
		// errors name a routine: this code is that of a statement which was prepared
		// before a table was made again as well, and passes with the next session.
		return &UnusableError{Reason: "no replication connection is taken at this address; connect to the server itself and not to a pooler", Err: err}
	}
	return nil
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("interrupted: %w", ctx.Err())
	case <-time.After(d):
		return nil
	}
}
