package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/embedded"
	"provwatch/internal/environment"
	"provwatch/internal/leader"
	"provwatch/internal/observe"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/report"
	"provwatch/internal/schema"
)

// configuredDatabase returns the database that --database-url-file, DATABASE_URL or
// libpq's PG* variables name, nil when none does.
func (f *flags) configuredDatabase() (*pgxpool.Config, error) {
	if f.databaseFile != "" {
		return openURLFile(f.databaseFile, f.logger())
	}
	databaseURL := os.Getenv("DATABASE_URL")
	if databaseURL == "" {
		set := false
		for _, variable := range []string{"PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"} {
			set = set || os.Getenv(variable) != ""
		}
		if !set {
			return nil, nil
		}
	}
	return postgres.Parse(postgres.Source{Name: "DATABASE_URL", Text: databaseURL, Logger: f.logger()})
}

// openURLFile returns the database that a file names, of --database-url-file or of a
// target. logger gets what becomes of the file later.
func openURLFile(path string, logger *slog.Logger) (*pgxpool.Config, error) {
	database, err := postgres.Parse(postgres.Source{Path: path, Logger: logger})
	if err != nil {
		return nil, &usageError{err}
	}
	return database, nil
}

// database returns the configured database, else the private one that runs in
// --data-dir.
func (f *flags) database() (*pgxpool.Config, error) {
	if f.target != nil {
		return f.target.openDatabase()
	}
	if err := f.needTarget(); err != nil {
		return nil, err
	}
	config, err := f.configuredDatabase()
	if err != nil || config != nil {
		return config, err
	}
	dir, err := f.privateDataDir()
	if err != nil {
		return nil, err
	}
	attached, err := embedded.Attach(dir)
	if err != nil {
		return nil, err
	}
	return postgres.ParseURL(attached)
}

// open finds the database and opens a pool on it, which the caller closes.
func (f *flags) open(ctx context.Context, logger *slog.Logger) (*pgxpool.Pool, *pgxpool.Config, error) {
	config, err := f.database()
	if err != nil {
		return nil, nil, err
	}
	pool, err := postgres.Connect(ctx, config, f.connectTimeout, logger)
	if err != nil {
		return nil, nil, err
	}
	if _, err := schema.Locate(ctx, pool); err != nil {
		pool.Close()
		return nil, nil, err
	}
	return pool, config, nil
}

// openWithEnvironment is [flags.open] for a command that compares the database
// with the environment: what cannot be used of that is known before anything
// connects.
func (f *flags) openWithEnvironment(ctx context.Context, logger *slog.Logger) (environment environment.Environment, keys *dbcrypt.Ring, pool *pgxpool.Pool, config *pgxpool.Config, err error) {
	if environment, err = f.environment(ctx, logger); err != nil {
		return environment, nil, nil, nil, err
	}
	pool, config, err = f.open(ctx, logger)
	return environment, dbcrypt.NewRing(environment.Keys), pool, config, err
}

// startDatabase returns the configured database, else starts the private one.
// The caller stops it; stop is nil for a configured one.
func (f *flags) startDatabase(ctx context.Context, logger *slog.Logger) (config *pgxpool.Config, stop func(context.Context) error, err error) {
	config, err = f.configuredDatabase()
	if err != nil || config != nil {
		return config, nil, err
	}
	// A server is not to be started, and made at first, for a worker that cannot run.
	if err := f.tryHTTPAddress(ctx); err != nil {
		return nil, nil, err
	}
	dir, err := f.privateDataDir()
	if err != nil {
		return nil, nil, err
	}
	server, err := embedded.Start(ctx, embedded.Options{DataDir: dir, Logger: logger})
	if err != nil {
		return nil, nil, fmt.Errorf("DATABASE_URL is not set: %w", err)
	}
	if config, err = postgres.ParseURL(server.ConnString()); err != nil {
		return nil, nil, errors.Join(err, server.Stop(context.WithoutCancel(ctx)))
	}
	logger.InfoContext(ctx, "DATABASE_URL is not set: a private PostgreSQL runs", "version", server.Version(), "data_dir", dir,
		"connect_with", psqlCommand(config))
	return config, server.Stop, nil
}

// tryHTTPAddress says whether --http-addr can be bound. The daemon binds it later.
func (f *flags) tryHTTPAddress(ctx context.Context) error {
	if f.httpAddress == "" {
		return nil
	}
	listener, err := observe.Bind(ctx, f.httpAddress)
	if err != nil {
		return err
	}
	return listener.Close()
}

// psqlCommand returns a shell command that connects to the database by unix
// socket. It holds neither a double quote nor a backslash, so that it is the same
// in the log, which escapes them.
func psqlCommand(config *pgxpool.Config) string {
	c := config.ConnConfig
	// libpq takes a plus sign for itself and not for a space.
	host := strings.ReplaceAll(url.QueryEscape(c.Host), "+", "%20")
	return fmt.Sprintf("psql 'postgres://%s@/%s?host=%s&port=%d&sslmode=disable'",
		url.PathEscape(c.User), url.PathEscape(c.Database), host, c.Port)
}

func (f *flags) privateDataDir() (string, error) {
	if f.dataDir != "" {
		return f.dataDir, nil
	}
	return embedded.DefaultDataDir()
}

// openAsOperator opens the database for a command that changes providers. Its role need
// not be one that can watch. The caller calls done at the end.
//
// A private PostgreSQL that does not run is started for the command and stopped by
// done: a start that fails for a drift names these commands, and stops it.
func (f *flags) openAsOperator(ctx context.Context, logger *slog.Logger) (pool *pgxpool.Pool, done func() error, err error) {
	stop := func() error { return nil }
	config, err := f.database()
	if errors.Is(err, embedded.ErrNotRunning) {
		config, stop, err = f.startExisting(ctx, logger, err)
	}
	if err != nil {
		return nil, nil, err
	}
	if pool, err = postgres.Connect(ctx, config, f.connectTimeout, logger); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	unwatch := warnOfWaits(ctx, pool, logger)
	done = func() error {
		unwatch()
		pool.Close()
		return stop()
	}
	needs := schema.Needs{Use: schema.Resolving, CommandFlags: f.commandFlags()}
	if err := schema.Ensure(ctx, pool, schema.Mode(f.migrate), needs, logger); err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return pool, done, nil
}

// stopTimeout bounds how long a command takes to stop the private PostgreSQL that it
// has started.
const stopTimeout = 30 * time.Second

// startExisting starts the private PostgreSQL of --data-dir where there is one, and
// returns notRunning where the folder has none.
func (f *flags) startExisting(ctx context.Context, logger *slog.Logger, notRunning error) (config *pgxpool.Config, stop func() error, err error) {
	dir, err := f.privateDataDir()
	if err != nil {
		return nil, nil, err
	}
	if !embedded.Exists(dir) {
		return nil, nil, notRunning
	}
	logger.InfoContext(ctx, "the private PostgreSQL does not run: it is started for this command", "data_dir", dir)
	server, err := embedded.Start(ctx, embedded.Options{DataDir: dir, Logger: logger})
	if err != nil {
		return nil, nil, err
	}
	stop = func() error {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return server.Stop(limited)
	}
	if config, err = postgres.ParseURL(server.ConnString()); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return config, stop, nil
}

// deliver delivers the audit entries that a seed has staged.
func deliver(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) {
	if err := audit.NewDeliverer(pool, logger, nil).Deliver(ctx); err != nil {
		logger.WarnContext(ctx, "audit entries stay in the outbox until a worker runs", "error", err)
	}
}

// handOver wakes the workers, which deliver the audit entries that a command has
// staged: an operator's role cannot. It returns what becomes of the entries, as far as is
// known in time: the command's own work is committed.
func handOver(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) report.Delivery {
	limited, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	err := pubsub.Publish(limited, pool, pubsub.StagedEntries, "")
	leads, leaderErr := leader.HasLeader(limited, pool)
	if err = errors.Join(err, leaderErr); err != nil {
		// A worker looks at the outbox anyway, at the latest with the next --resync.
		logger.WarnContext(ctx, "could not wake a worker to deliver the audit entries", "error", err)
	}
	switch {
	case leaderErr != nil:
		return report.Undetermined
	case leads:
		return report.Delivered
	}
	return report.Staged
}
