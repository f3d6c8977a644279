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
	// maxBackOff bounds the wait between attempts to reconnect, before jitter.
	maxBackOff = 15 * time.Second
)

// Listener listens on the channels that it has a handler for. It has one connection, which
// [Listener.Run] owns.
type Listener struct {
	settings   settings
	logger     *slog.Logger
	maxBackOff time.Duration
}

// New returns a listener; [Listener.Run] connects it.
func New(config *pgx.ConnConfig, observer Observer, logger *slog.Logger) *Listener {
	return &Listener{
		settings: settings{
			config: config, handlers: map[pubsub.Channel]Handler{}, observer: observer,
			probeInterval: probeInterval, probeTimeout: probeTimeout,
		},
		logger: logger, maxBackOff: maxBackOff,
	}
}

// Handle makes the handler get the notifications of a channel. At least one channel is
// handled before Run, and none after.
func (l *Listener) Handle(channel pubsub.Channel, handler Handler) {
	if _, again := l.settings.handlers[channel]; !again {
		l.settings.channels = append(l.settings.channels, channel)
	}
	l.settings.handlers[channel] = handler
}

// Guard makes the guard check each session. It is called before Run.
func (l *Listener) Guard(guard Guard) { l.settings.guard = guard }

// Probe sets after how long a quiet connection is probed (30 s by default), and how long a
// probe, a connection attempt or a LISTEN may take (10 s). It is called before Run.
func (l *Listener) Probe(interval, timeout time.Duration) {
	l.settings.probeInterval, l.settings.probeTimeout = interval, timeout
}

// RetryWithin bounds the wait between attempts to reconnect, before jitter. It is called
// before Run.
func (l *Listener) RetryWithin(limit time.Duration) { l.maxBackOff = limit }

// Attended makes the attendant use each listening session. It is called before Run.
func (l *Listener) Attended(attendant Attendant) { l.settings.attendant = attendant }

// Run listens until ctx ends. It replaces a lost connection, with backoff and jitter, without
// limit of tries.
func (l *Listener) Run(ctx context.Context) {
	var run run
	for attempt := range (retry.Policy{First: 50 * time.Millisecond, Max: l.maxBackOff}).Attempts(ctx) {
		l.settings.observer.CameRound()
		err := l.listen(ctx, attempt, &run)
		if ctx.Err() != nil {
			l.left(ctx.Err())
			return
		}
		wait, _ := attempt.Failed()
		l.settings.observer.Lost(err)
		l.left(err)
		l.logger.Log(ctx, run.failures.level(err), "listening connection lost", "error", err, "retry_in", wait)
	}
}

// run is what one session after another has come to.
type run struct {
	listened bool // a session has counted as listening
	failures failureTopics
}

// listen connects, listens and hands notifications on until the connection fails or ctx
// ends.
func (l *Listener) listen(ctx context.Context, attempt *retry.Attempt, run *run) error {
	s, err := connect(ctx, &l.settings)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	wait, err := s.comeRound(ctx)
	if err != nil {
		return err
	}
	attempt.Reset()
	run.failures = nil
	l.logger.InfoContext(ctx, "listening", "channel", string(l.settings.channels[0]), "reconnected", run.listened)
	l.settings.observer.Listening(run.listened)
	run.listened = true
	return s.follow(ctx, wait)
}

func (l *Listener) left(cause error) {
	if l.settings.attendant != nil {
		l.settings.attendant.Left(cause)
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
