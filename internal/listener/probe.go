package listener

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/postgres"
	"provwatch/internal/store"
)

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
			l.observer.QueueUsage(usage)
		}
		return err
	})
}

// keepAliveAfter does so when the interval has passed since the last time, which it
// returns.
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
	l.observer.Gather(true)
	defer l.observer.Gather(false)
	err := question(limited)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && !conn.IsClosed() {
		return nil // the server answered, if only with a refusal
	}
	return err
}
