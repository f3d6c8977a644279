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

// prober asks the server of a session for signs of life. Only the listener's goroutine uses
// it.
type prober struct {
	conn     *pgx.Conn
	observer Observer
	timeout  time.Duration
	answered time.Time // when the server last did
}

// gather asks for a sign of life, and gathers the notifications that come before it.
func (p *prober) gather(ctx context.Context) error {
	p.answered = time.Now()
	return p.ask(ctx, p.conn.Ping)
}

// keepAlive asks for a sign of life when the server has not answered for the interval. Its
// question is of use in itself: it frees the queue of notifications of what all have read.
func (p *prober) keepAlive(ctx context.Context, interval time.Duration) error {
	if time.Since(p.answered) < interval {
		return nil
	}
	if err := p.ask(ctx, p.measure); err != nil {
		return err
	}
	p.answered = time.Now()
	return nil
}

// measure measures the queue of notifications.
func (p *prober) measure(ctx context.Context) error {
	// A pooler can have given the session to others, and with it what is listened to.
	if err := postgres.CheckSession(ctx, p.conn.PgConn()); err != nil {
		return err
	}
	usage, err := store.On(p.conn).NotificationQueueUsage(ctx)
	if err == nil {
		p.observer.QueueUsage(usage)
	}
	return err
}

func (p *prober) ask(ctx context.Context, question func(context.Context) error) error {
	limited, cancel := context.WithTimeout(postgres.Expect(ctx, p.timeout/2), p.timeout)
	defer cancel()
	p.observer.Gather(true)
	defer p.observer.Gather(false)
	err := question(limited)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && !p.conn.IsClosed() {
		return nil // the server answered, if only with a refusal
	}
	if err != nil {
		return fmt.Errorf("no answer on the listening connection: %w", err)
	}
	return nil
}
