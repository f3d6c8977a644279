// Package listener owns the one connection that LISTENs. It hands each notification to the
// handler of its channel, probes a connection that is quiet, and reconnects without limit
// of tries (docs/specification.md, section 6).
package listener

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
)

const (
	// probeInterval is how long the connection may stay quiet before it is
	// probed. TCP keep-alive finds a vanished peer; the probe finds a server or a
	// proxy that accepts bytes and no longer answers.
	probeInterval = 30 * time.Second
	// probeTimeout is how long a probe, a connection attempt or a LISTEN may take.
	// For both, [Listener.Probe] can say otherwise.
	probeTimeout = 10 * time.Second
	// attendedProbe is how often a session is probed whose attendant asks the server all
	// the while. The answers are signs of life; a probe also shows a pooler, and the queue.
	attendedProbe = time.Minute
	// maxBackOff bounds the wait between attempts to reconnect, before jitter.
	maxBackOff = 15 * time.Second
)

// Attendant uses the listening session beside the listener, on its goroutine.
type Attendant interface {
	// Attend may use the connection until it returns, which it does within bounded time.
	// It is called when LISTEN is in effect, before the session counts as listening, and
	// then again when next has passed, or earlier. After an error the session is given up.
	Attend(ctx context.Context, conn *pgx.Conn) (next time.Duration, err error)
	// Left is called when the session has ended, with the reason.
	Left(cause error)
}

// Handler handles the notifications of a channel.
type Handler interface {
	// Notified is called for each notification, on the listener's goroutine, and must not
	// block. The payload is a hint from outside, never data.
	Notified(payload string)
}

// HandlerFunc is a [Handler] that is a function.
type HandlerFunc func(payload string)

// Notified implements [Handler].
func (f HandlerFunc) Notified(payload string) { f(payload) }

// Observer follows the listening session. Its methods are called on the listener's
// goroutine and must not block.
type Observer interface {
	// Listening is called each time LISTEN is in effect: everything committed from now on is
	// notified of, so what is read from now on misses nothing. reconnected is false the
	// first time.
	Listening(reconnected bool)
	// Gather is called with true before notifications that belong together, and with false
	// after the last of them. The first of a burst is handed on alone and at once. With it
	// the server is asked for an answer, and the others belong together: those of one
	// transaction, however many, all come before the answer.
	Gather(on bool)
	// QueueUsage is called now and then while nothing is notified of, with how full the
	// server's queue of notifications is, from 0 to 1.
	QueueUsage(usage float64)
	// Lost is called when the connection is lost.
	Lost(err error)
}

// Listener listens on the channels that it has a handler for. It has one connection, which
// [Listener.Run] owns.
type Listener struct {
	config   *pgx.ConnConfig
	channels []pubsub.Channel // in the order in which they were handled first
	handlers map[pubsub.Channel]Handler
	observer Observer
	// attendant is nil for none.
	attendant Attendant
	// check fails where the session cannot be used.
	check func(context.Context, *pgx.Conn) error
	// progress is called each time that the listener comes round.
	progress func()
	logger   *slog.Logger

	probeInterval, probeTimeout, maxBackOff time.Duration
}

// New returns a listener; [Listener.Run] connects it.
func New(config *pgx.ConnConfig, observer Observer, logger *slog.Logger) *Listener {
	return &Listener{
		config: config, handlers: map[pubsub.Channel]Handler{}, observer: observer, logger: logger,
		check:    func(context.Context, *pgx.Conn) error { return nil },
		progress: func() {}, probeInterval: probeInterval, probeTimeout: probeTimeout, maxBackOff: maxBackOff,
	}
}

// Handle makes the handler get the notifications of a channel. At least one channel is
// handled before Run, and none after.
func (l *Listener) Handle(channel pubsub.Channel, handler Handler) {
	if _, again := l.handlers[channel]; !again {
		l.channels = append(l.channels, channel)
	}
	l.handlers[channel] = handler
}

// Progress makes the listener call progress each time that it comes round, at the latest
// after each of its waits, which are all bounded, whatever the server does. It is called
// before Run.
func (l *Listener) Progress(progress func()) { l.progress = progress }

// Check makes the listener call check of each session before it counts as listening, and
// each time that it comes round. After an error the session is given up. It is called
// before Run.
func (l *Listener) Check(check func(context.Context, *pgx.Conn) error) { l.check = check }

// Probe sets after how long a quiet connection is probed (30 s by default), and how long a
// probe, a connection attempt or a LISTEN may take (10 s). It is called before Run.
func (l *Listener) Probe(interval, timeout time.Duration) {
	l.probeInterval, l.probeTimeout = interval, timeout
}

// RetryWithin bounds the wait between attempts to reconnect, before jitter. It is called
// before Run.
func (l *Listener) RetryWithin(limit time.Duration) { l.maxBackOff = limit }

// Attended makes the attendant use each listening session. It is called before Run.
func (l *Listener) Attended(attendant Attendant) { l.attendant = attendant }

// Run listens until ctx ends. It replaces a lost connection, with backoff and jitter, without
// limit of tries.
func (l *Listener) Run(ctx context.Context) {
	listenedBefore := false
	var failures failureTopics
	for attempt := range (retry.Policy{First: 50 * time.Millisecond, Max: l.maxBackOff}).Attempts(ctx) {
		l.progress()
		err := l.listen(ctx, func() {
			attempt.Reset()
			failures = nil
			l.logger.InfoContext(ctx, "listening", "channel", string(l.channels[0]), "reconnected", listenedBefore)
			l.observer.Listening(listenedBefore)
			listenedBefore = true
		})
		if ctx.Err() != nil {
			l.left(ctx.Err())
			return
		}
		wait, _ := attempt.Failed()
		l.observer.Lost(err)
		l.left(err)
		l.logger.Log(ctx, failures.level(err), "listening connection lost", "error", err, "retry_in", wait)
	}
}

// maxTopics bounds how many topics of failures a listener remembers.
const maxTopics = 20

// failureTopics are the topics of the failures since the session last counted as listening.
type failureTopics []string

// level returns the level of a failure: a warning is the first of all, and a line of the
// log the first of each topic.
func (t *failureTopics) level(err error) slog.Level {
	topic := postgres.Matter(err)
	switch {
	case slices.Contains(*t, topic), len(*t) >= maxTopics:
		return slog.LevelDebug
	case len(*t) == 0:
		*t = append(*t, topic)
		return slog.LevelWarn
	}
	*t = append(*t, topic)
	return slog.LevelInfo
}
