package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"

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

// serverKey is where a connection's data has its placement.
const serverKey = "provwatch.server"

// placement is the server of a session, and what is known of those of the other sessions
// of its configuration.
type placement struct {
	server server
	others *servers
}

// placementOf returns the placement of a session, as it was when the session began. That
// of a session that was not set up by [Parse] has no server, and counts for no other.
func placementOf(conn *pgconn.PgConn) placement {
	if p, ok := conn.CustomData()[serverKey].(placement); ok {
		return p
	}
	return placement{others: &servers{}}
}

// record records the server of a new session other than the listening one.
func (p placement) record() { p.others.set(p.server) }

// servers is what is known of the servers of the sessions of one configuration. Its
// methods may be called by several goroutines.
type servers struct {
	mu     sync.Mutex // guards what follows
	latest server     // of the latest session that is none of a listener
	// moved says that the sessions before that one, unless they have ended, may be on
	// another server.
	moved bool
}

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
func CheckServer(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool) error {
	placed := placementOf(conn.PgConn())
	own := placed.server
	if own.started == "" || !placed.others.mayBeElsewhere(own) {
		return nil
	}
	pool.Reset()
	var started, host, port string
	if err := pool.QueryRow(ctx, "SELECT "+describeServer).Scan(&started, &host, &port); err != nil {
		placed.others.setMoved() // it is not known, and whoever needs the pool reports it
		return nil
	}
	if started == own.started {
		return nil
	}
	placed.others.setMoved()
	split := &SplitError{Listening: own.address, Others: newServer(started, host, port).address}
	// Not every role may ask for it.
	const system = `SELECT system_identifier FROM pg_catalog.pg_control_system()`
	_ = conn.QueryRow(ctx, system).Scan(&split.ListeningSystem)
	_ = pool.QueryRow(ctx, system).Scan(&split.OthersSystem)
	return split
}

func (s *servers) set(latest server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest.started != "" && s.latest.started != latest.started {
		s.moved = true
	}
	s.latest = latest
}

func (s *servers) setMoved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved = true
}

// mayBeElsewhere reports whether a session other than the listening one may be on another
// server than that, and forgets what was recorded of it.
func (s *servers) mayBeElsewhere(own server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	elsewhere := s.moved || s.latest.started != "" && s.latest.started != own.started
	if elsewhere {
		s.moved, s.latest = false, own
	}
	return elsewhere
}
