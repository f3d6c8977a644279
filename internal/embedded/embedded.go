// Package embedded runs a private PostgreSQL server, out of a local
// installation of PostgreSQL, for a worker that was given no database.
//
// Everything the server needs lives in one folder, the data dir:
//
//	pgdata        the PostgreSQL data directory, made by initdb
//	postgres.log  the output of the server
//	password      the superuser's password, for connections by TCP
//	run           the folder of the unix socket
//	lock          held (flock) by the worker that owns the server
//
// The server outlives a worker that is killed; the next worker to start on the
// same data dir adopts it.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Options says where the private server lives and how it is run.
type Options struct {
	// DataDir is the folder that holds everything of the server. It is made
	// if absent. A relative path is taken from the working directory.
	DataDir string

	// BinDir is the folder of initdb, pg_ctl and postgres. Empty means to
	// search for it, see [FindBinDir].
	BinDir string

	// Settings are further server parameters (the names of postgresql.conf).
	// They win over those that Start chooses; a "port" given here replaces the
	// free port that is otherwise chosen at each start.
	Settings map[string]string

	// Logger gets what happens on the way; nil discards it.
	Logger *slog.Logger
}

// Server is a running private PostgreSQL server, owned by this process until
// [Server.Stop].
type Server struct {
	cluster   *cluster
	socketDir string
	port      int
	version   string
	// adopted reports whether the server was found running, left behind by a worker that
	// did not stop it. Such a server keeps the settings that it was started with.
	adopted bool

	mu   sync.Mutex
	lock *os.File // nil once stopped
}

// Start starts the private server of a data dir, which it makes and
// initialises if need be, and returns once the server answers. A server left
// running by a worker that was killed is adopted. When the context is done
// before, what was started is stopped again.
//
// As root, which PostgreSQL refuses to run as, the server runs as the owner of
// an existing data directory, otherwise as the system user "postgres" or
// "nobody".
//
// Errors say what to do about them. They include another worker using the data
// dir, no installation of PostgreSQL, one of another major version than the
// data, and the last lines of the server's log when it did not start.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	if o.DataDir == "" {
		return nil, errors.New("starting the private PostgreSQL: no data dir is given: set --data-dir")
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("starting the private PostgreSQL: finding the folder %q: %w", o.DataDir, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("starting the private PostgreSQL in %s: %w", dir, err)
		}
	}()

	c := &cluster{dir: dir, pgdata: filepath.Join(dir, "pgdata"), log: o.Logger}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	major, err := dataVersion(c.pgdata)
	if err != nil {
		return nil, err
	}
	if c.binDir, err = chooseBinDir(ctx, o.BinDir, c.pgdata, major); err != nil {
		return nil, err
	}
	if c.account, err = serverAccount(c.pgdata); err != nil {
		return nil, err
	}
	if err := c.makeDataDir(ctx); err != nil {
		return nil, err
	}
	s := &Server{cluster: c}
	if s.lock, err = c.acquireLock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.lock.Close()
		}
	}()

	var found postmaster
	if found, s.adopted, err = c.adopt(ctx); err != nil {
		return nil, err
	}
	if !s.adopted {
		if err := c.initialise(ctx, o.Settings["fsync"] == "off"); err != nil {
			return nil, err
		}
		if found, err = c.launch(ctx, o.Settings); err != nil {
			return nil, err
		}
	}
	s.socketDir, s.port = found.socketDir, found.port
	if err := s.prepare(ctx); err != nil {
		if !s.adopted {
			c.abandon()
		}
		return nil, err
	}
	return s, nil
}

// prepare creates the database if it is absent and asks the server for its
// version.
func (s *Server) prepare(ctx context.Context) error {
	conn, err := connect(ctx, connString(s.socketDir, s.port, "postgres"))
	if err != nil {
		return fmt.Errorf("connecting to the server: %w: see %s", err, s.cluster.logName())
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version string
	var exists bool
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'), EXISTS (SELECT FROM pg_database WHERE datname = $1)`, superuser).
		Scan(&version, &exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+superuser)
	}
	if err != nil {
		return fmt.Errorf("creating the database %s: %w: see %s", superuser, err, s.cluster.logName())
	}
	// Packagers append their own version: "15.14 (Debian 15.14-0+deb12u1)".
	s.version, _, _ = strings.Cut(version, " ")
	return nil
}

// ConnString returns the libpq keyword/value connection string of the database
// "provwatch", by unix socket as the superuser. It holds no secret: the
// permissions of the socket's folder guard the server.
func (s *Server) ConnString() string { return connString(s.socketDir, s.port, superuser) }

// Version returns the server's version, such as "15.14".
func (s *Server) Version() string { return s.version }

// Stop stops the server (a fast shutdown: clients are disconnected, a
// checkpoint is written), waits for its end and gives up the lock of the data
// dir. It returns nil when the server is gone already, and at a second call.
//
// When the context is done first, Stop returns an error while the server goes
// on to shut down; a later Start waits for that.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	defer func() {
		s.lock.Close()
		s.lock = nil
	}()

	c := s.cluster
	if _, ok := running(c.pgdata); !ok {
		c.log.Warn("private PostgreSQL had already ended", "data_dir", c.dir)
	}
	if out, err := c.stopIfRunning(ctx); err != nil {
		return fmt.Errorf("stopping the private PostgreSQL in %s: %w%s\nstop it with: %s stop -D %s",
			c.dir, err, quoteLines(out), filepath.Join(c.binDir, "pg_ctl"), c.pgdata)
	}
	removeTempSocketDir(s.socketDir)
	return nil
}
