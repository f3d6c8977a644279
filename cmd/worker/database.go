package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/embedded"
	"provwatch/internal/postgres"
)

// configuredDatabase returns the database that DATABASE_URL or libpq's PG*
// variables name, nil when neither does.
func configuredDatabase() (*pgxpool.Config, error) {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		set := false
		for _, variable := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"} {
			set = set || os.Getenv(variable) != ""
		}
		if !set {
			return nil, nil
		}
	}
	config, err := postgres.ParseURL(url)
	if err != nil {
		return nil, &usageError{err}
	}
	return config, nil
}

// database returns the configured database, else the private one that runs in
// --data-dir.
func (f *flags) database() (*pgxpool.Config, error) {
	config, err := configuredDatabase()
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

// connect opens a pool on the database.
func (f *flags) connect(ctx context.Context, config *pgxpool.Config, logger *slog.Logger) (*pgxpool.Pool, error) {
	return postgres.Connect(ctx, config, f.connectTimeout, logger)
}

// startDatabase returns the configured database, else starts the private one.
// The caller stops it.
func (f *flags) startDatabase(ctx context.Context, logger *slog.Logger) (config *pgxpool.Config, stop func(context.Context) error, err error) {
	config, err = configuredDatabase()
	if err != nil || config != nil {
		return config, func(context.Context) error { return nil }, err
	}
	dir, err := f.privateDataDir()
	if err != nil {
		return nil, nil, err
	}
	server, err := embedded.Start(ctx, embedded.Options{DataDir: dir, Logger: logger})
	if err != nil {
		return nil, nil, fmt.Errorf("start a private PostgreSQL, since DATABASE_URL is not set: %w", err)
	}
	logger.InfoContext(ctx, "DATABASE_URL is not set: a private PostgreSQL runs", "version", server.Version(), "data_dir", dir,
		"connect_with", fmt.Sprintf("psql %q", server.ConnString()))
	config, err = postgres.ParseURL(server.ConnString())
	return config, server.Stop, err
}

func (f *flags) privateDataDir() (string, error) {
	if f.dataDir != "" {
		return f.dataDir, nil
	}
	return embedded.DefaultDataDir()
}
