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
// on another server than those of the pool. It asks nothing while the latest session of
// the others is on the same server.
func (a *Activity) CheckServer(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool) error {
	own, latest := serverOf(conn.PgConn()), a.latestServer()
	if own.started == "" || latest.started == "" || latest.started == own.started {
		return nil
	}
	// The latest can have ended: what the pool is connected to now counts.
	var started, host, port string
	if err := pool.QueryRow(ctx, "SELECT "+describeServer).Scan(&started, &host, &port); err != nil {
		return nil // it is not known, and whoever needs the pool reports it
	}
	others := newServer(started, host, port)
	a.setServer(others)
	if others.started == own.started {
		return nil
	}
	split := &SplitError{Listening: own.address, Others: others.address}
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

// setServer notes the server of a session other than the listening one.
func (a *Activity) setServer(s server) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.server = s
}

// latestServer is the server of the latest session other than the listening one.
func (a *Activity) latestServer() server {
	if a == nil {
		return server{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.server
}
