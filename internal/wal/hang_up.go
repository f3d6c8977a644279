package wal

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// hangUpTimeout bounds the wait for the end of a replication connection.
const hangUpTimeout = time.Second

// hangUp closes a replication connection. It waits until the server has ended the process of the
// connection, which holds the slot until then. The worker gives up the leader's lock after that,
// so that the next leader finds the slot free (docs/specification.md, section 8).
func hangUp(conn *pgconn.PgConn) {
	if conn.IsClosed() {
		return // it was lost
	}
	defer func() { _ = conn.Close(context.Background()) }() // the deadline holds for it as well
	network := conn.Conn()
	_ = network.SetDeadline(time.Now().Add(hangUpTimeout))
	frontend := conn.Frontend()
	frontend.Send(&pgproto3.Terminate{})
	if frontend.Flush() == nil {
		_, _ = io.Copy(io.Discard, network)
	}
}
