package listener

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
)

// attendedProbe is how often a session is probed whose attendant asks the server all the
// while. The answers are signs of life; a probe also shows a pooler, and the queue.
const attendedProbe = time.Minute

// settings are what all sessions of a listener have in common. They are not changed after
// the first has begun.
type settings struct {
	config   *pgx.ConnConfig
	channels []pubsub.Channel // in the order in which they were handled first
	handlers map[pubsub.Channel]Handler
	observer Observer
	// attendant and guard are nil for none.
	attendant Attendant
	guard     Guard

	probeInterval, probeTimeout time.Duration
}

// session is one listening session. Only the listener's goroutine uses it.
type session struct {
	settings *settings
	conn     *pgx.Conn
	prober   prober
}

// connect opens a session that listens on all channels.
func connect(ctx context.Context, settings *settings) (*session, error) {
	limited, cancel := context.WithTimeout(ctx, settings.probeTimeout)
	defer cancel()
	config := settings.config.Copy()
	// On receipt, so that the connection keeps none.
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if handler := settings.handlers[pubsub.Channel(n.Channel)]; handler != nil {
			handler.Notified(n.Payload)
		}
	}
	conn, err := pgx.ConnectConfig(limited, config)
	if err != nil {
		return nil, postgres.Brief(err)
	}
	var statements, channels []string
	for _, channel := range settings.channels {
		statements = append(statements, "LISTEN "+pgx.Identifier{string(channel)}.Sanitize())
		channels = append(channels, string(channel))
	}
	// In one round trip and one transaction.
	if err := conn.PgConn().Exec(limited, strings.Join(statements, "; ")).Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", strings.Join(channels, ", "), err), conn.Close(limited))
	}
	return &session{
		settings: settings, conn: conn,
		prober: prober{conn: conn, observer: settings.observer, timeout: settings.probeTimeout, answered: time.Now()},
	}, nil
}

func (s *session) close(ctx context.Context) {
	// ctx may have ended, and closing politely is worth a moment.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = s.conn.Close(closing)
}

// follow hands notifications on, at first for the time wait, until the session fails or ctx
// ends.
func (s *session) follow(ctx context.Context, wait time.Duration) (err error) {
	for {
		if err := s.await(ctx, wait); err != nil {
			return err
		}
		if wait, err = s.comeRound(ctx); err != nil {
			return err
		}
	}
}

// comeRound has the session checked, and lets the attendant use it. It returns how long to
// wait for notifications until it must be called again.
func (s *session) comeRound(ctx context.Context) (wait time.Duration, err error) {
	s.settings.observer.CameRound()
	if err := s.check(ctx); err != nil {
		return 0, err
	}
	return s.attend(ctx)
}

func (s *session) check(ctx context.Context) error {
	if s.settings.guard == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, s.settings.probeTimeout)
	defer cancel()
	return s.settings.guard.Check(limited, s.conn)
}

func (s *session) attend(ctx context.Context) (wait time.Duration, err error) {
	if s.settings.attendant == nil {
		return s.settings.probeInterval, nil
	}
	s.settings.observer.Gather(true)
	defer s.settings.observer.Gather(false)
	next, err := s.settings.attendant.Attend(ctx, s.conn)
	return min(next, s.settings.probeInterval), err
}

// await waits for a notification for a time, and probes the session where that is due. With
// the first notification it hands on the others of its burst.
func (s *session) await(ctx context.Context, wait time.Duration) error {
	if wait == 0 {
		return s.prober.keepAlive(ctx, attendedProbe)
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	_, err := s.conn.WaitForNotification(waiting) // the handler has it
	quiet := waiting.Err() != nil
	cancel()
	switch {
	case err == nil:
		return s.prober.gather(ctx)
	case ctx.Err() != nil:
		return ctx.Err()
	case quiet && !s.conn.IsClosed():
		return s.prober.keepAlive(ctx, s.settings.probeInterval)
	default:
		return err
	}
}
