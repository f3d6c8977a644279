package listener

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
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
	// CameRound is called each time that the listener comes round: before each attempt to
	// connect, and at the latest after each of its waits, which are all bounded, whatever the
	// server does.
	CameRound()
}

// Guard decides whether a session can be used.
type Guard interface {
	// Check fails where it cannot: the session is given up then. It is called before the
	// session counts as listening, and each time that the listener comes round.
	Check(ctx context.Context, conn *pgx.Conn) error
}
