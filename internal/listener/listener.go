// Package listener owns the one connection that LISTENs: it reconnects for
// ever, and gathers what notifications ask for until a verification takes it
// (docs/specification.md, section 6).
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
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

// Handler is told what happens on the listening connection. Its methods are
// called one at a time and must not block.
type Handler interface {
	// Listening is called each time LISTEN is in effect: everything committed
	// from now on is notified of, so what is read from now on misses nothing.
	// reconnected is false the first time.
	Listening(reconnected bool)
	// Notified is called for each notification. Its payload is a hint from
	// outside, never data.
	Notified(payload string)
	// Gather is called with true before notifications that belong together, and
	// with false after the last of them. The first of a burst is handed on alone
	// and at once. With it the server is asked for an answer, and the others belong
	// together: those of one transaction, however many, all come before the answer.
	Gather(on bool)
	// QueueUsage is called now and then while nothing is notified of, with how full
	// the server's queue of notifications is, from 0 to 1.
	QueueUsage(usage float64)
	// Lost is called when the connection is lost.
	Lost(err error)
}

// Listener listens on one channel, and on others that say as much.
type Listener struct {
	config  *pgx.ConnConfig
	channel pubsub.Channel
	also    []pubsub.Channel
	wakes   map[pubsub.Channel]func()
	handler Handler
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
func New(config *pgx.ConnConfig, channel pubsub.Channel, handler Handler, logger *slog.Logger) *Listener {
	return &Listener{
		config: config, channel: channel, handler: handler, logger: logger,
		check:    func(context.Context, *pgx.Conn) error { return nil },
		progress: func() {}, probeInterval: probeInterval, probeTimeout: probeTimeout, maxBackOff: maxBackOff,
	}
}

// Progress makes the listener call progress each time that it comes round, at the
// latest after each of its waits, which are all bounded, whatever the server does.
// It is called before Run.
func (l *Listener) Progress(progress func()) { l.progress = progress }

// Check makes the listener call check of each session before it counts as listening, and
// each time that it comes round. After an error the session is given up. It is called
// before Run.
func (l *Listener) Check(check func(context.Context, *pgx.Conn) error) { l.check = check }

// Probe sets after how long a quiet connection is probed (30 s by default), and how
// long a probe, a connection attempt or a LISTEN may take (10 s). It is called before
// Run.
func (l *Listener) Probe(interval, timeout time.Duration) {
	l.probeInterval, l.probeTimeout = interval, timeout
}

// RetryWithin bounds the wait between attempts to reconnect, before jitter. It is
// called before Run.
func (l *Listener) RetryWithin(limit time.Duration) { l.maxBackOff = limit }

// Attended makes the attendant use each listening session. It is called before Run.
func (l *Listener) Attended(attendant Attendant) { l.attendant = attendant }

// Also makes notifications of another channel count as well. It is called before
// Run.
func (l *Listener) Also(channel pubsub.Channel) { l.also = append(l.also, channel) }

// Wake makes each notification of another channel call wake, which must not block,
// and not the handler. It is called before Run.
func (l *Listener) Wake(channel pubsub.Channel, wake func()) {
	if l.wakes == nil {
		l.wakes = map[pubsub.Channel]func(){}
	}
	l.wakes[channel] = wake
}

// Run listens until ctx ends. A lost connection is made anew, with backoff and
// jitter, without limit of tries.
func (l *Listener) Run(ctx context.Context) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval = 50 * time.Millisecond
	retry.MaxInterval = l.maxBackOff
	listenedBefore := false
	var told matters
	for {
		l.progress()
		err := l.listen(ctx, func() {
			retry.Reset()
			told = nil
			l.logger.InfoContext(ctx, "listening", "channel", string(l.channel), "reconnected", listenedBefore)
			l.handler.Listening(listenedBefore)
			listenedBefore = true
		})
		if ctx.Err() != nil {
			l.left(ctx.Err())
			return
		}
		wait := retry.NextBackOff()
		l.handler.Lost(err)
		l.left(err)
		l.logger.Log(ctx, told.level(err), "listening connection lost", "error", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// maxMatters bounds how many matters a listener remembers.
const maxMatters = 20

// matters are what the failures were about since the session last counted as listening.
type matters []string

// level returns the level of a failure: a warning is the first of all, and a line of the
// log the first of each matter.
func (m *matters) level(err error) slog.Level {
	matter := postgres.Matter(err)
	switch {
	case slices.Contains(*m, matter), len(*m) >= maxMatters:
		return slog.LevelDebug
	case len(*m) == 0:
		*m = append(*m, matter)
		return slog.LevelWarn
	}
	*m = append(*m, matter)
	return slog.LevelInfo
}

// listen connects, listens and hands notifications on until the connection
// fails or ctx ends.
func (l *Listener) listen(ctx context.Context, listening func()) error {
	conn, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		// ctx may have ended, and closing politely is worth a moment.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	counts := false // as listening
	probed := time.Now()
	for {
		l.progress()
		if err := l.checked(ctx, conn); err != nil {
			return err
		}
		wait, err := l.attend(ctx, conn)
		if err != nil {
			return err
		}
		if !counts {
			counts = true
			listening()
		}
		if wait == 0 {
			if probed, err = l.keepAliveAfter(ctx, conn, probed, attendedProbe); err != nil {
				return err
			}
			continue
		}
		waiting, cancel := context.WithTimeout(ctx, wait)
		_, err = conn.WaitForNotification(waiting) // the handler has it
		quiet := waiting.Err() != nil
		cancel()
		switch {
		case err == nil:
			probed = time.Now()
			if err := l.probe(ctx, conn); err != nil {
				return fmt.Errorf("no answer on the listening connection: %w", err)
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case quiet && !conn.IsClosed():
			if probed, err = l.keepAliveAfter(ctx, conn, probed, l.probeInterval); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// attend lets the attendant use the session, and returns how long to wait for
// notifications until it is to do so again.
func (l *Listener) attend(ctx context.Context, conn *pgx.Conn) (wait time.Duration, err error) {
	if l.attendant == nil {
		return l.probeInterval, nil
	}
	l.handler.Gather(true)
	defer l.handler.Gather(false)
	next, err := l.attendant.Attend(ctx, conn)
	return min(next, l.probeInterval), err
}

func (l *Listener) checked(ctx context.Context, conn *pgx.Conn) error {
	limited, cancel := context.WithTimeout(ctx, l.probeTimeout)
	defer cancel()
	return l.check(limited, conn)
}

func (l *Listener) left(cause error) {
	if l.attendant != nil {
		l.attendant.Left(cause)
	}
}

func (l *Listener) connect(ctx context.Context) (*pgx.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, l.probeTimeout)
	defer cancel()
	config := l.config.Copy()
	// As they are received, so that none has to be kept.
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if wake := l.wakes[pubsub.Channel(n.Channel)]; wake != nil {
			wake()
			return
		}
		l.handler.Notified(n.Payload)
	}
	conn, err := pgx.ConnectConfig(limited, config)
	if err != nil {
		return nil, postgres.Brief(err)
	}
	var statements, channels []string
	for _, channel := range slices.AppendSeq(append([]pubsub.Channel{l.channel}, l.also...), maps.Keys(l.wakes)) {
		statements = append(statements, "LISTEN "+pgx.Identifier{string(channel)}.Sanitize())
		channels = append(channels, string(channel))
	}
	// In one round trip and one transaction.
	if err := conn.PgConn().Exec(limited, strings.Join(statements, "; ")).Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", strings.Join(channels, ", "), err), conn.Close(limited))
	}
	return conn, nil
}

// probe asks for a sign of life, and gathers the notifications that come before it.
func (l *Listener) probe(ctx context.Context, conn *pgx.Conn) error {
	return l.ask(ctx, conn, conn.Ping)
}

// keepAlive is a probe by a question whose asking is of use in itself: it frees
// the queue of notifications of what all have read.
func (l *Listener) keepAlive(ctx context.Context, conn *pgx.Conn) error {
	return l.ask(ctx, conn, func(ctx context.Context) error {
		// A pooler can have given the session to others, and with it what is listened to.
		if err := postgres.CheckSession(ctx, conn.PgConn()); err != nil {
			return err
		}
		usage, err := store.On(conn).NotificationQueueUsage(ctx)
		if err == nil {
			l.handler.QueueUsage(usage)
		}
		return err
	})
}

// keepAliveAfter does so when the interval has passed since it last did. It returns when
// it last did.
func (l *Listener) keepAliveAfter(ctx context.Context, conn *pgx.Conn, last time.Time, interval time.Duration) (time.Time, error) {
	if time.Since(last) < interval {
		return last, nil
	}
	if err := l.keepAlive(ctx, conn); err != nil {
		return last, fmt.Errorf("no answer on the listening connection: %w", err)
	}
	return time.Now(), nil
}

func (l *Listener) ask(ctx context.Context, conn *pgx.Conn, question func(context.Context) error) error {
	limited, cancel := context.WithTimeout(postgres.Expect(ctx, l.probeTimeout/2), l.probeTimeout)
	defer cancel()
	l.handler.Gather(true)
	defer l.handler.Gather(false)
	err := question(limited)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && !conn.IsClosed() {
		return nil // the server answered, if only with a refusal
	}
	return err
}
