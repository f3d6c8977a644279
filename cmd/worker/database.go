package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/embedded"
	"provwatch/internal/environment"
	"provwatch/internal/postgres"
	"provwatch/internal/schema"
)

// configuredDatabase returns the database that --database-url-file, DATABASE_URL or
// libpq's PG* variables name, nil when none does.
func (f *flags) configuredDatabase() (*pgxpool.Config, error) {
	switch {
	case f.databaseFile != "":
		return openURLFile(f.databaseFile, f.logger())
	case !f.namesDatabase():
		return nil, nil
	}
	return postgres.Parse(postgres.Source{Name: "DATABASE_URL", Text: os.Getenv("DATABASE_URL"), Logger: f.logger()})
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
		return f.targetDatabase()
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

// targetDatabase returns the configuration of the target's database.
func (f *flags) targetDatabase() (*pgxpool.Config, error) {
	database, err := f.parseTargetDatabase()
	if err != nil {
		return nil, err
	}
	postgres.Share(database)
	return database, nil
}

func (f *flags) parseTargetDatabase() (*pgxpool.Config, error) {
	t, logger := f.target, f.logger().With("target", f.target.Name)
	if t.DatabaseURLFile != "" {
		return openURLFile(t.DatabaseURLFile, logger)
	}
	source := postgres.Source{Name: "database", Text: t.Database, Logger: logger}
	if t.DatabaseURLEnv != "" {
		source.Name, source.Text = t.DatabaseURLEnv, os.Getenv(t.DatabaseURLEnv)
	}
	if source.Text == "" {
		return nil, &usageError{fmt.Errorf("%s is empty or not set; it must hold the connection string", source.Name)}
	}
	return postgres.Parse(source)
}

func (f *flags) privateDataDir() (string, error) {
	if f.dataDir != "" {
		return f.dataDir, nil
	}
	return embedded.DefaultDataDir()
}

// open finds the database and opens a pool on it, which the caller closes.
func (f *flags) open(ctx context.Context, logger *slog.Logger) (*pgxpool.Pool, *pgxpool.Config, error) {
	config, err := f.database()
	if err != nil {
		return nil, nil, err
	}
	pool, err := postgres.Connector{Config: config, Timeout: f.connectTimeout, Logger: logger}.Connect(ctx)
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
