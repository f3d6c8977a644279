// Package postgres connects to PostgreSQL and sorts its errors.
package postgres

import (
	"context"
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
		placementOf(conn.PgConn()).record()
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

// ObserverConfig is [ListenConfig] of a worker that observes, which other workers and
// "worker status" recognize by the name.
func ObserverConfig(config *pgxpool.Config) *pgx.ConnConfig {
	return named(config, "-observer-listener")
}

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
		placementOf(conn).record()
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

// PruningConfig returns the configuration of a pool that deletes old rows: one connection
// beside the worker's own, so that a deletion never keeps a record waiting.
func PruningConfig(config *pgxpool.Config) *pgxpool.Config {
	copied := config.Copy()
	copied.MaxConns, copied.MinConns = 1, 0
	copied.ConnConfig.RuntimeParams["application_name"] += "-pruner"
	return copied
}

func named(config *pgxpool.Config, suffix string) *pgx.ConnConfig {
	copied := config.ConnConfig.Copy()
	copied.RuntimeParams["application_name"] += suffix
	return copied
}
