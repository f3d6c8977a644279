package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// All sessions of a worker must be of one server: what is listened to on one is of no use
// to a pool of another. With several hosts in the connection string, each session is of
// the first that takes it.

// server identifies a server: no two have begun in the same microsecond.
type server struct {
	started string // of its postmaster, in seconds since 1970
	address string // as the server has it, with the port; of a Unix socket the port alone
}

// describeServer is part of how each session begins: the columns of a row of text.
const describeServer = `(SELECT extract(epoch FROM pg_catalog.pg_postmaster_start_time()))::pg_catalog.text, ` +
	`coalesce(pg_catalog.host(pg_catalog.inet_server_addr()), ''), pg_catalog.current_setting('port')`

// serverKey is where a connection's data has its server.
const serverKey = "provwatch.server"

func newServer(started, host, port string) server {
	if host == "" {
		return server{started, "a Unix socket, port " + port}
	}
	return server{started, net.JoinHostPort(host, port)}
}

// SplitError says that the listening session is on another server than the others.
type SplitError struct {
	Listening, Others string // the servers' addresses
	// Systems are their system identifiers, 0 for unknown.
	ListeningSystem, OthersSystem int64
}

func (e *SplitError) Error() string {
	name := func(address string, system int64) string {
		if system == 0 {
			return address
		}
		return address + " (system identifier " + strconv.FormatInt(system, 10) + ")"
	}
	return fmt.Sprintf("the listening session is on the server at %s, and the others are on that at %s: several hosts take connections; "+
		"name one host, or set target_session_attrs=read-write where only one of them can be written to",
		name(e.Listening, e.ListeningSystem), name(e.Others, e.OthersSystem))
}

// CheckServer fails with a [*SplitError] where the listening session of the connection is
// on another server than those of the pool.
//
// A pool keeps a connection for up to an hour. One that was made while the first host was
// down stays on the second when the listening session has returned to the first. So the
// pool is reset whenever its sessions may be on another server: its next connections begin
// with the first host too. Only where they still differ is it an error. While all sessions
// are known to be on the same server nothing is asked.
func (a *Activity) CheckServer(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool) error {
	own := serverOf(conn.PgConn())
	if own.started == "" || !a.mayBeElsewhere(own) {
		return nil
	}
	pool.Reset()
	var started, host, port string
	if err := pool.QueryRow(ctx, "SELECT "+describeServer).Scan(&started, &host, &port); err != nil {
		a.setMoved() // it is not known, and whoever needs the pool reports it
		return nil
	}
	if started == own.started {
		return nil
	}
	a.setMoved()
	split := &SplitError{Listening: own.address, Others: newServer(started, host, port).address}
	// Not every role may ask for it.
	const system = `SELECT system_identifier FROM pg_catalog.pg_control_system()`
	_ = conn.QueryRow(ctx, system).Scan(&split.ListeningSystem)
	_ = pool.QueryRow(ctx, system).Scan(&split.OthersSystem)
	return split
}

// serverOf returns the server of a session, as it was when the session began.
func serverOf(conn *pgconn.PgConn) server {
	own, _ := conn.CustomData()[serverKey].(server)
	return own
}

// setServer records the server of a new session other than the listening one.
func (a *Activity) setServer(s server) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server.started != "" && a.server.started != s.started {
		a.moved = true
	}
	a.server = s
}

func (a *Activity) setMoved() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moved = true
}

// mayBeElsewhere reports whether a session other than the listening one may be on another
// server than that, and forgets what was recorded of it.
func (a *Activity) mayBeElsewhere(own server) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	elsewhere := a.moved || a.server.started != "" && a.server.started != own.started
	if elsewhere {
		a.moved, a.server = false, own
	}
	return elsewhere
}
