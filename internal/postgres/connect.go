// Package postgres connects to PostgreSQL and sorts its errors.
package postgres

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgerrcode"
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

// UnreachableError says that the database could not be connected to; exit code
// 4 (docs/specification.md, section 8).
type UnreachableError struct {
	Address string // host and database, without credentials
	Remedy  string
	Err     error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot connect to PostgreSQL at %s: %v; %s", e.Address, e.Err, e.Remedy)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Connect opens a pool, trying again with backoff until the server answers or
// timeout has passed. What waiting does not mend, such as a wrong password that is not
// read again, ends it at once. Errors are [*UnreachableError], or ctx's own. failed are called after
// each try that is to be repeated, with its error as Connect would return it.
func Connect(ctx context.Context, config *pgxpool.Config, timeout time.Duration, logger *slog.Logger, failed ...func(error)) (*pgxpool.Pool, error) {
	address := addressOf(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, &UnreachableError{Address: address, Remedy: remediesFor(config).any, Err: err}
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	_, err = backoff.Retry(limited, func() (struct{}, error) {
		err := pool.Ping(limited)
		if err != nil && limited.Err() == nil {
			last = err
		}
		if _, final := diagnose(err, config); final {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	},
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, wait time.Duration) {
			logger.WarnContext(ctx, "database not reachable yet, trying again", "address", address, "error", Brief(err), "retry_in", wait)
			tell(failed, config, err)
		}))
	if err == nil {
		return pool, nil
	}
	// The pool makes its first connection with a context of its own, which a server
	// that takes connections and says nothing keeps waiting.
	Close(pool, closeTimeout)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if last == nil {
		last = fmt.Errorf("no answer within %s", timeout)
	}
	return nil, unreachable(config, last)
}

// Persist calls do, and again with backoff for as long as it loses the
// connection, until timeout has passed since the first loss: the server may be
// restarting, or another one be taking its place. The error is then an
// [*UnreachableError], and otherwise that of do, or ctx's own. failed are called
// after each loss, with its error as Persist would return it.
func Persist(ctx context.Context, config *pgxpool.Config, timeout time.Duration, logger *slog.Logger, do func() error, failed ...func(error)) error {
	err := do()
	if !passes(err) {
		return final(config, err)
	}
	logger.WarnContext(ctx, "connection lost, trying again", "address", addressOf(config), "error", Brief(err))
	tell(failed, config, err)
	last := err
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		if err != nil && !passes(err) {
			return struct{}{}, backoff.Permanent(err)
		}
		if err != nil {
			last = err
		}
		return struct{}{}, err
	},
		backoff.WithMaxElapsedTime(timeout),
		backoff.WithNotify(func(err error, wait time.Duration) {
			logger.WarnContext(ctx, "connection lost, trying again", "address", addressOf(config), "error", Brief(err), "retry_in", wait)
			tell(failed, config, err)
		}))
	if err == nil || ctx.Err() != nil || !passes(err) {
		return final(config, err)
	}
	return unreachable(config, last)
}

// passes reports whether a start goes on once the connection is back.
func passes(err error) bool { return IsConnectionLoss(err) && !IsPooling(err) }

// final returns an error that ends a start, with the remedy of a pooler.
func final(config *pgxpool.Config, err error) error {
	if IsPooling(err) {
		return unreachable(config, err)
	}
	return err
}

// Explain adds the remedy to the error of a running worker where waiting alone may not
// mend it: where the login is refused, the server is full, or a pooler keeps no session.
func Explain(config *pgxpool.Config, err error) error {
	if !IsLoginRefused(err) && !IsPooling(err) && !isFull(err) {
		return err
	}
	remedy, _ := diagnose(err, config)
	return fmt.Errorf("%w; %s", Brief(err), remedy)
}

// tell calls the functions with the error of a try.
func tell(failed []func(error), config *pgxpool.Config, err error) {
	for _, f := range failed {
		f(unreachable(config, err))
	}
}

func unreachable(config *pgxpool.Config, err error) *UnreachableError {
	remedy, _ := diagnose(err, config)
	if IsPooling(err) {
		err = &PoolingError{} // which says all that there is to say
	}
	return &UnreachableError{Address: addressOf(config), Remedy: remedy, Err: Brief(err)}
}

func addressOf(config *pgxpool.Config) string {
	c := config.ConnConfig
	return fmt.Sprintf("%s:%d/%s", c.Host, c.Port, c.Database)
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

// remedies name the places that say how to connect.
type remedies struct {
	any      string // where nothing tells the cause
	user     string
	password string
	database string
}

var (
	ofVariables = remedies{
		any:      "check DATABASE_URL (or --database-url-file, or PG*), that the server runs, and --connect-timeout",
		user:     "check the user in DATABASE_URL (or PGUSER), and that its role is there and has LOGIN",
		password: "check the user and the password of DATABASE_URL (or PGUSER, PGPASSWORD and PGPASSFILE)",
		database: "check the database's name in DATABASE_URL (or PGDATABASE)",
	}
	// With --config, DATABASE_URL must not be set.
	ofTarget = remedies{
		any:      "check the target's database in the file of --config, that the server runs, and --connect-timeout",
		user:     "check the user in the target's database_url_env, database_url_file or database (or PGUSER), and that its role is there and has LOGIN",
		password: "check the user and the password of the target's database: those of its database_url_env or database_url_file, else PGUSER, PGPASSWORD and PGPASSFILE",
		database: "check the database's name in the target's database_url_env, database_url_file or database",
	}
)

func remediesFor(config *pgxpool.Config) remedies {
	if IsShared(config) {
		return ofTarget
	}
	return ofVariables
}

// diagnose returns what to do about a connection that failed, and whether
// waiting does not mend it, as it does neither wrong credentials nor a
// certificate that does not count.
func diagnose(err error, config *pgxpool.Config) (remedy string, final bool) {
	remedies := remediesFor(config)
	var (
		pg        *pgconn.PgError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case err == nil:
		return remedies.any, false
	case IsPooling(err):
		return keepSession, true
	case errors.As(err, &authority):
		return "the server's certificate must be signed by a CA of the file sslrootcert (PGSSLROOTCERT)", true
	case errors.As(err, &hostname):
		return "connect by a host name that is in the server's certificate, or give it one that has this name", true
	case errors.As(err, &invalid):
		return "renew the server's certificate, or that of its CA", true
	// The last two have no types. With sslmode=prefer a server without TLS is then
	// connected to without, and what it says to that is what counts.
	case strings.Contains(err.Error(), refusedTLS) && !errors.As(err, &pg):
		return "the server has no TLS: set ssl=on there, or, where the network may be trusted, sslmode=disable here (PGSSLMODE)", true
	case strings.Contains(err.Error(), "remote error: tls:"):
		return "the server refused the certificate of sslcert (PGSSLCERT): renew it, or have it signed by a CA of the server's ssl_ca_file", true
	case !errors.As(err, &pg):
		return remedies.any, false
	case isReadAgain(pg):
		return pg.Hint, false
	case strings.Contains(pg.Message, "unsupported startup parameter"):
		return "the pooler refuses a setting of the connection string: set it for the role (ALTER ROLE … SET) in place of that, or connect to the server itself", true
	case isUnknownRole(pg):
		return remedies.user, true
	case pg.Code == pgerrcode.InvalidAuthorizationSpecification:
		return "give the role what pg_hba.conf asks of it: sslcert and sslkey (PGSSLCERT, PGSSLKEY) for a client certificate, " +
			"which must name it and be signed by a CA of the server's ssl_ca_file, or sslmode (PGSSLMODE) for TLS", true
	case pg.Code == pgerrcode.InvalidPassword:
		return remedies.password, true
	case pg.Code == pgerrcode.InvalidCatalogName:
		return remedies.database, true
	case pg.Code == pgerrcode.TooManyConnections:
		return "let others close their sessions, or raise max_connections, or the CONNECTION LIMIT of the database or the role, whichever the server names", false
	case pg.Code == pgerrcode.InsufficientPrivilege:
		return fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", pgx.Identifier{config.ConnConfig.Database}.Sanitize(), pgx.Identifier{config.ConnConfig.User}.Sanitize()), true
	default:
		return remedies.any, pgerrcode.IsInvalidAuthorizationSpecification(pg.Code)
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
