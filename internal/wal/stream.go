package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"provwatch/internal/postgres"
)

const (
	// quietStatusInterval is [statusInterval] while nothing new is confirmed. The server is then
	// asked for an answer: a stream that says nothing can be one that stands still.
	quietStatusInterval = 3 * time.Second
	// maxAsked is how often in a row the server is asked in vain until the stream is given
	// up. While it decodes a large transaction of other tables it answers after half of
	// wal_sender_timeout, which the session sets.
	maxAsked = 10
)

// errUnanswered ends a stream that stands still. The server does not end that of a process
// that is stopped.
var errUnanswered = fmt.Errorf("the server has not answered for %s", maxAsked*quietStatusInterval)

// stream receives and decodes the messages of the server, hands on what they complete, and
// confirms what is handled. Its own goroutine alone touches it from its start to its end.
type stream struct {
	conn     *pgconn.PgConn
	activity *postgres.Activity
	decoder  decoder

	backlog *backlog // takes what is decoded; shared with the handler
	marks   *marks   // shared with the handler and the monitor

	deadline time.Time // of the connection
	sent     pglogrepl.LSN
	sentAt   time.Time
	asked    int    // since the server was last heard
	answered func() // ends the report of the wait for an answer, nil for none
}

// receive reads the stream until it fails or ctx ends.
func (s *stream) receive(ctx context.Context) error {
	// The connection's own deadline, and not a context for each message, which costs as
	// much as decoding it.
	interrupt := context.AfterFunc(ctx, func() { _ = s.conn.Conn().SetReadDeadline(time.Unix(1, 0)) })
	defer interrupt()
	defer s.heard()
	for {
		message, err := s.next(ctx)
		switch {
		case err != nil:
			return err
		case message == nil:
			err = s.report(ctx, false)
		default:
			s.heard()
			err = s.take(ctx, message)
		}
		if err != nil {
			return err
		}
	}
}

// next returns the next message, nil when none has come within [statusInterval].
func (s *stream) next(ctx context.Context) (pgproto3.BackendMessage, error) {
	if now := time.Now(); s.deadline.Sub(now) < statusInterval/2 {
		s.deadline = now.Add(statusInterval)
		if err := s.conn.Conn().SetReadDeadline(s.deadline); err != nil {
			return nil, fmt.Errorf("read the replication stream: %w", err)
		}
	}
	// After the deadline is set, so that it does not undo the interruption.
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	message, err := s.conn.ReceiveMessage(context.Background())
	switch {
	case err == nil:
		return message, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case pgconn.Timeout(err):
		s.deadline = time.Time{}
		return nil, nil
	default:
		return nil, fmt.Errorf("read the replication stream: %w", err)
	}
}

// take handles a message of the server.
func (s *stream) take(ctx context.Context, message pgproto3.BackendMessage) error {
	switch m := message.(type) {
	case *pgproto3.ErrorResponse:
		err := pgconn.ErrorResponseToPgError(m)
		if err.Code == pgerrcode.UndefinedObject {
			// The publication as it was when the change was made counts.
			return &gapError{reason: "the publication was not there all the time: " + err.Message}
		}
		return fmt.Errorf("read the replication stream: %w", err)
	case *pgproto3.CopyData:
		switch {
		case len(m.Data) == 0:
		case m.Data[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
			return s.takeKeepAlive(ctx, m.Data[1:])
		case m.Data[0] == pglogrepl.XLogDataByteID:
			return s.takeData(ctx, m.Data[1:])
		}
	}
	return nil
}

// takeKeepAlive hands on that the stream has passed a position, and answers.
func (s *stream) takeKeepAlive(ctx context.Context, data []byte) error {
	keepAlive, err := pglogrepl.ParsePrimaryKeepaliveMessage(data)
	if err != nil {
		return errors.New("a keep-alive of the replication stream cannot be parsed")
	}
	s.marks.end.store(keepAlive.ServerWALEnd)
	// Inside a transaction the position is not past anything yet.
	if !s.decoder.inTransaction() {
		if err := s.handOn(ctx, event{passed: keepAlive.ServerWALEnd}); err != nil {
			return err
		}
	}
	return s.report(ctx, keepAlive.ReplyRequested)
}

// takeData decodes a part of the WAL, and hands on the transaction that it completes.
func (s *stream) takeData(ctx context.Context, data []byte) error {
	log, err := pglogrepl.ParseXLogData(data)
	if err != nil {
		return errUnreadable
	}
	s.marks.end.store(log.ServerWALEnd)
	done, err := s.decoder.decode(log.WALData)
	if err != nil {
		// The same message comes again after every restart.
		return &gapError{reason: err.Error()}
	}
	if done != nil {
		if err := s.handOn(ctx, event{transaction: done}); err != nil {
			return err
		}
	}
	if time.Since(s.sentAt) > statusInterval {
		return s.report(ctx, false)
	}
	return nil
}

// handOn puts an event into the backlog. While that is full, the server hears of the worker.
func (s *stream) handOn(ctx context.Context, e event) error {
	for {
		if added, err := s.backlog.put(ctx, e); added || err != nil {
			return err
		}
		if err := s.report(ctx, true); err != nil {
			return err
		}
	}
}

// heard records that the server has sent a message.
func (s *stream) heard() {
	s.asked = 0
	if s.answered != nil {
		s.answered()
		s.answered = nil
	}
}

// report sends the server what is confirmed, where that is due or forced. Where there is
// nothing new, it asks for an answer.
func (s *stream) report(ctx context.Context, force bool) error {
	confirmed := s.marks.confirmed.load()
	isNew := confirmed != s.sent
	if !force && !isNew && time.Since(s.sentAt) < quietStatusInterval {
		return nil
	}
	ask := !force && !isNew
	if ask && s.asked == maxAsked {
		return fmt.Errorf("confirm on the replication stream: %w", errUnanswered)
	}
	if ask {
		s.asked++
		if s.answered == nil {
			s.answered = s.activity.BeginSlow("the replication stream", s.conn.PID())
		}
	}
	s.sent, s.sentAt = confirmed, time.Now()
	if err := sendStatus(ctx, s.conn, confirmed, ask); err != nil {
		return fmt.Errorf("confirm on the replication stream: %w", err)
	}
	return nil
}

// end sends the server once more what is confirmed, after receive has returned.
func (s *stream) end() {
	if s.conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = sendStatus(ctx, s.conn, s.marks.confirmed.load(), false)
}

func sendStatus(ctx context.Context, conn *pgconn.PgConn, confirmed pglogrepl.LSN, ask bool) error {
	return pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: confirmed, ReplyRequested: ask})
}
