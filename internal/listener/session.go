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
	l.observer.Gather(true)
	defer l.observer.Gather(false)
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
	// On receipt, so that the connection keeps none.
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if handler := l.handlers[pubsub.Channel(n.Channel)]; handler != nil {
			handler.Notified(n.Payload)
		}
	}
	conn, err := pgx.ConnectConfig(limited, config)
	if err != nil {
		return nil, postgres.Brief(err)
	}
	var statements, channels []string
	for _, channel := range l.channels {
		statements = append(statements, "LISTEN "+pgx.Identifier{string(channel)}.Sanitize())
		channels = append(channels, string(channel))
	}
	// In one round trip and one transaction.
	if err := conn.PgConn().Exec(limited, strings.Join(statements, "; ")).Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", strings.Join(channels, ", "), err), conn.Close(limited))
	}
	return conn, nil
}
