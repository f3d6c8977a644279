package wal

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// status is what a worker sends.
type status struct {
	confirmed pglogrepl.LSN
	asks      bool // for an answer
}

// walSender is the server's end of a replication connection.
type walSender struct {
	t        *testing.T
	backend  *pgproto3.Backend
	statuses chan status
}

// newStream returns a stream whose server is the sender. It is called in a bubble of
// synctest.
func newStream(t *testing.T) (*stream, *walSender) {
	t.Helper()
	client, server := net.Pipe()
	config, err := pgconn.ParseConfig("host=none")
	require.NoError(t, err)
	conn, err := pgconn.Construct(&pgconn.HijackedConn{Conn: client, Frontend: pgproto3.NewFrontend(client, client), Config: config, TxStatus: 'I'})
	require.NoError(t, err)
	sender := &walSender{t: t, backend: pgproto3.NewBackend(server, server), statuses: make(chan status, 1000)}
	go sender.listen()
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return &stream{conn: conn, backlog: newBacklog(), marks: &marks{}}, sender
}

// listen receives what the worker sends until the connection ends.
func (w *walSender) listen() {
	for {
		message, err := w.backend.Receive()
		if err != nil {
			return
		}
		data := message.(*pgproto3.CopyData).Data
		assert.Equal(w.t, byte(pglogrepl.StandbyStatusUpdateByteID), data[0])
		w.statuses <- status{confirmed: pglogrepl.LSN(binary.BigEndian.Uint64(data[1:])), asks: data[33] == 1}
	}
}

func (w *walSender) send(message pgproto3.BackendMessage) {
	w.t.Helper()
	w.backend.Send(message)
	require.NoError(w.t, w.backend.Flush())
	synctest.Wait()
}

// sendData sends a part of the WAL.
func (w *walSender) sendData(message []byte, end pglogrepl.LSN) {
	w.t.Helper()
	w.send(&pgproto3.CopyData{Data: append(writing{pglogrepl.XLogDataByteID}.lsn(0).lsn(end).uint64(0), message...)})
}

func (w *walSender) sendKeepAlive(end pglogrepl.LSN, asks byte) {
	w.t.Helper()
	w.send(&pgproto3.CopyData{Data: writing{pglogrepl.PrimaryKeepaliveMessageByteID}.lsn(end).uint64(0).byte(asks)})
}

// next returns the status that the worker has sent, which is the only one.
func (w *walSender) next() status {
	w.t.Helper()
	synctest.Wait()
	require.Len(w.t, w.statuses, 1)
	return <-w.statuses
}

// start runs the stream. The function that it returns waits for its end.
func start(t *testing.T, ctx context.Context, s *stream) (wait func() error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.receive(ctx) }()
	synctest.Wait()
	return func() error { return <-ended }
}

// handedOn returns what the stream has handed on.
func handedOn(s *stream) (events []event) {
	for {
		select {
		case e := <-s.backlog.events:
			events = append(events, e)
		default:
			return events
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	t.Run("HandsOnWhatItDecodes", func(t *testing.T) {
		for name, messages := range recordings(t) {
			synctest.Test(t, func(t *testing.T) {
				s, sender := newStream(t)
				ctx, cancel := context.WithCancel(t.Context())
				wait := start(t, ctx, s)
				for i, message := range messages {
					sender.sendData(message, pglogrepl.LSN(1000+i))
				}
				require.EqualValues(t, 1000+len(messages)-1, s.marks.end.load(), name)
				var got []*transaction
				for _, e := range handedOn(s) {
					if e.isNews() {
						got = append(got, e.transaction)
					}
				}
				require.NotEmpty(t, got, name)
				require.Equal(t, transactions(t, messages), got, name)
				cancel()
				require.ErrorIs(t, wait(), context.Canceled)
			})
		}
	})
	t.Run("HandsOnPositionsBetweenTransactions", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, sender := newStream(t)
			start(t, t.Context(), s)
			messages := recordings(t)["postgres18_rows"]
			sender.sendKeepAlive(7, 0)
			sender.sendData(messages[0], 8)
			sender.sendKeepAlive(9, 0)
			require.Equal(t, []event{{passed: 7}}, handedOn(s), "inside a transaction nothing is passed")
			require.EqualValues(t, 9, s.marks.end.load())
			for _, message := range messages[1:] {
				sender.sendData(message, 10)
			}
			sender.sendKeepAlive(11, 0)
			events := handedOn(s)
			require.Equal(t, event{passed: 11}, events[len(events)-1])
		})
	})
	t.Run("ConfirmsWhatIsStored", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, sender := newStream(t)
			s.marks.confirmed.store(5)
			start(t, t.Context(), s)
			time.Sleep(statusInterval)
			require.Equal(t, status{confirmed: 5}, sender.next())
			s.marks.confirmed.store(6)
			time.Sleep(statusInterval)
			require.Equal(t, status{confirmed: 6}, sender.next())
			sender.sendKeepAlive(7, 1)
			require.Equal(t, status{confirmed: 6}, sender.next(), "the server has asked")
			sender.sendKeepAlive(7, 0)
			require.Empty(t, sender.statuses)
			time.Sleep(quietStatusInterval)
			require.Equal(t, status{confirmed: 6, asks: true}, sender.next())
		})
	})
	t.Run("GivesUpAServerThatDoesNotAnswer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, sender := newStream(t)
			wait := start(t, t.Context(), s)
			time.Sleep((maxAsked - 1) * quietStatusInterval)
			sender.sendKeepAlive(7, 0)
			began := time.Now()
			require.ErrorIs(t, wait(), errUnanswered)
			require.GreaterOrEqual(t, time.Since(began), maxAsked*quietStatusInterval, "an answer begins the count anew")
		})
	})
	t.Run("ReportsWhileTheBacklogIsFull", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, sender := newStream(t)
			s.marks.confirmed.store(5)
			_, err := s.backlog.put(t.Context(), eventOf(maxBacklog))
			require.NoError(t, err)
			start(t, t.Context(), s)
			sender.sendKeepAlive(7, 0)
			time.Sleep(statusInterval)
			require.Equal(t, status{confirmed: 5}, sender.next())
			s.backlog.done(<-s.backlog.events)
			synctest.Wait()
			require.Equal(t, []event{{passed: 7}}, handedOn(s))
		})
	})
	for name, c := range map[string]struct {
		message pgproto3.BackendMessage
		gap     string // empty for an error of another kind
	}{
		"AMissingPublicationIsAGap": {&pgproto3.ErrorResponse{Code: "42704", Message: "there is none"}, "the publication was not there all the time: there is none"},
		"AnUnreadableMessageIsAGap": {&pgproto3.CopyData{Data: append(writing{pglogrepl.XLogDataByteID}.lsn(0).lsn(9).uint64(0), "?q7zleak"...)}, errUnreadable.Error()},
		"AnErrorIsNoGap":            {&pgproto3.ErrorResponse{Code: "57P01", Message: "terminating connection"}, ""},
		"ShortDataIsNoGap":          {&pgproto3.CopyData{Data: []byte{pglogrepl.XLogDataByteID, 'q'}}, ""},
		"AShortKeepAliveIsNoGap":    {&pgproto3.CopyData{Data: []byte{pglogrepl.PrimaryKeepaliveMessageByteID, 'q'}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, sender := newStream(t)
				wait := start(t, t.Context(), s)
				sender.send(c.message)
				err := wait()
				require.Error(t, err)
				require.False(t, strings.Contains(err.Error(), "q7zleak"))
				gap := ""
				if lost := asGap(err); lost != nil {
					gap = lost.reason
				}
				require.Equal(t, c.gap, gap, err)
			})
		})
	}
	t.Run("EndsWithAConfirmation", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, sender := newStream(t)
			s.marks.confirmed.store(8)
			s.end()
			require.Equal(t, status{confirmed: 8}, sender.next())
		})
	})
}
