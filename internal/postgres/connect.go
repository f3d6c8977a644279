// Package postgres connects to PostgreSQL and sorts its errors.
package postgres

import (
	"cmp"
	"context"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
)

const (
	// maxConns is how many connections a worker uses beside the listener's:
	// verification and audit delivery, each at most one.
	maxConns = 2
	// maxConnIdle closes connections between verifications that are far apart.
	maxConnIdle = time.Minute
	// sharedConnIdle closes connections of a worker that watches many databases; a
	// burst of changes comes within it.
	sharedConnIdle = 10 * time.Second
	// closeTimeout is how long closing a pool that has not connected may take.
	closeTimeout = 100 * time.Millisecond
)

// sessionSettings let the server end the session of a worker that froze inside a
// transaction, and with it the locks that others wait for, but not one that
// waits: the worker bounds its statements itself, and a listener is quiet for as
// long as nothing happens.
//
// Where policies would hide rows from the role, a statement fails: a hidden row
// must not count as missing.
//
// A commit that is reported must be durable, since alerts are confirmed by it.
//
// Whoever has waited for one of our locks must see what its holder has committed,
// also where the database or the role has another level than the usual one.
const sessionSettings = `SET default_transaction_isolation = 'read committed'; SET row_security = off; ` +

	keepAliveSettings +
	`SET idle_in_transaction_session_timeout = '60s'; SET statement_timeout = 0; SET lock_timeout = 0; SET idle_session_timeout = 0; ` +
	`SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('transaction_timeout', true) IS NOT NULL; ` + // of PostgreSQL 17
	`SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'`

// keepAliveSettings let the server end, within half a minute, the session of a client
// that vanished without closing it, whether or not the server has something to send. On a
// Unix socket they have no meaning.
const keepAliveSettings = `SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = '30s'; `

// statusSettings bound what a look at the status costs the server.
const statusSettings = `SET statement_timeout = '3s'; SET lock_timeout = '1s'; SET jit = off; SET default_transaction_read_only = on`

// keepAlive finds a peer that vanished without closing the connection within
// about half a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// ParseURL parses a DATABASE_URL: a postgres:// URL or libpq's keywords. What
// it leaves out comes from libpq's PG* variables; an empty url takes everything
// from them. The error is a [*ConnectionStringError].
func ParseURL(url string) (*pgxpool.Config, error) {
	return Parse(Source{Name: "DATABASE_URL", Text: url})
}

// Parse is [ParseURL] of a source. Its connections log in as the source says when they
// are made; all else stays as it is. An error of a file that is absent, cannot be read
// or is empty is not a [*ConnectionStringError].
func Parse(source Source) (*pgxpool.Config, error) {
	text, err := source.read()
	if err != nil {
		return nil, err
	}
	read, err := readText(source.name(), text)
	if err != nil {
		return nil, err
	}
	config := read.config
	config.MaxConns = maxConns
	// One stays open, so that a change does not wait for a connection.
	config.MinConns = 1
	config.MaxConnIdleTime = maxConnIdle
	all := newSessions()
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		all.activity.setServer(serverOf(conn.PgConn()))
		// Without it ids go by way of their text, at several times the cost.
		pgxuuid.Register(conn.TypeMap())
		return nil
	}
	login := newCredentials(source, read)
	config.ConnConfig.AfterNetConnect = login.give
	keeps := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(conn *pgconn.PgConn, failed *pgconn.PgError) bool {
		login.hint(failed)
		return !all.lost(failed) && keeps(conn, failed)
	}
	all.config = config.ConnConfig.Config.Copy()
	// Set after connecting, since a pooler refuses parameters that it does not
	// know at the start of a connection.
	config.ConnConfig.AfterConnect = all.setUp
	config.PrepareConn = prepareConn
	config.ConnConfig.Tracer = all.activity
	return config, nil
}

// readText returns what the text of a source says together with what the service file,
// the password file and the PG* variables add.
func readText(source, text string) (reading, error) {
	settings, reason := parseConnectionString(text)
	if reason != "" {
		return reading{}, &ConnectionStringError{source, reason}
	}
	if err := settings.checkVariables(); err != nil {
		return reading{}, err
	}
	merged, err := settings.withService(source)
	if err != nil {
		return reading{}, err
	}
	if err := merged.checkFiles(source); err != nil {
		return reading{}, err
	}
	handed := settings.forPgx()
	addresses, reason := merged.addresses()
	if reason != "" {
		return reading{}, &ConnectionStringError{source, reason}
	}
	if addresses != nil {
		handed["host"] = merged["host"]
	}
	config, err := pgxpool.ParseConfig(handed.String())
	if err != nil {
		// Which quotes what it cannot use.
		if text == "" {
			return reading{}, &ConnectionStringError{"the PG* variables", "cannot be used: check PGPORT, PGSERVICE, PGREQUIREAUTH and the certificate files"}
		}
		return reading{}, &ConnectionStringError{source, "cannot be used: check its certificate files, require_auth, the pool's settings and the number of its ports, and the PG* variables for what it leaves out"}
	}
	params := config.ConnConfig.RuntimeParams
	for name := range notOfPgx {
		delete(params, name) // which pgx has read from the service file
	}
	setDefault(params, "application_name", cmp.Or(merged["fallback_application_name"], "provwatch"))
	connectTo(&config.ConnConfig.Config, addresses, strings.Count(merged["host"], ",")+1)
	if reason := merged.boundTLS(&config.ConnConfig.Config); reason != "" {
		return reading{}, &ConnectionStringError{source, reason}
	}
	config.ConnConfig.DialFunc = merged.dial()
	return reading{config: config, given: settings, merged: merged}, nil
}

// Share makes the pool keep no connection while nothing happens, for a worker that
// watches many databases: a change then waits for a connection to be made. Errors of
// connecting are then told as those of a target of --config.
func Share(config *pgxpool.Config) {
	config.MinConns = 0
	config.MaxConnIdleTime = sharedConnIdle
	config.HealthCheckPeriod = sharedConnIdle
}

// IsShared reports whether the pool is as [Share] makes it.
func IsShared(config *pgxpool.Config) bool { return config.MinConns == 0 }

func setDefault(params map[string]string, name, value string) {
	if _, set := params[name]; !set {
		params[name] = value
	}
}

// Close closes a pool, and reports whether that succeeded within the time given. A
// server that hangs can keep it from closing: the end of the process then does it.
func Close(pool *pgxpool.Pool, within time.Duration) (closed bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pool.Close()
	}()
	select {
	case <-done:
		return true
	case <-time.After(within):
		return false
	}
}

// ListenConfig returns the configuration of the listening connection beside the
// pool.
func ListenConfig(config *pgxpool.Config) *pgx.ConnConfig { return named(config, "-listener") }

// walSenderSettings make the server end a replication session whose client answers
// nothing: a leader that froze must not keep the slot for longer than it takes to replace
// it. Such a session is in a transaction while a mirror is made by the snapshot of a new
// slot.
const walSenderSettings = `SET wal_sender_timeout = '20s'; SET idle_in_transaction_session_timeout = 0`

// ReplicationConfig returns the configuration of the connection that reads the
// WAL.
func ReplicationConfig(config *pgxpool.Config) *pgx.ConnConfig {
	replication := named(config, "-wal")
	replication.RuntimeParams["replication"] = "database"
	connect := replication.AfterConnect
	replication.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := connect(ctx, conn); err != nil {
			return err
		}
		ActivityOf(config.ConnConfig).setServer(serverOf(conn))
		return conn.Exec(ctx, walSenderSettings).Close()
	}
	// Values travel as text, and times in these forms are read.
	replication.RuntimeParams["datestyle"] = "ISO"
	replication.RuntimeParams["timezone"] = "UTC"
	return replication
}

// StatusConfig returns the configuration of a pool that reads the status, and
// only while somebody asks for it: one connection beside the worker's own, so that
// whoever looks never keeps a verification waiting.
func StatusConfig(config *pgxpool.Config) *pgxpool.Config {
	copied := config.Copy()
	copied.MaxConns, copied.MinConns = 1, 0
	copied.ConnConfig.Tracer = nil // its statements are bounded, and no alert depends on them
	connect := copied.ConnConfig.AfterConnect
	copied.ConnConfig.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := connect(ctx, conn); err != nil {
			return err
		}
		return conn.Exec(ctx, statusSettings).Close()
	}
	copied.ConnConfig.RuntimeParams["application_name"] += "-status"
	return copied
}

func named(config *pgxpool.Config, suffix string) *pgx.ConnConfig {
	copied := config.ConnConfig.Copy()
	copied.RuntimeParams["application_name"] += suffix
	return copied
}
