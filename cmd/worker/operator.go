package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/embedded"
	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/reconcile"
	"provwatch/internal/report"
	"provwatch/internal/schema"
)

// operator returns who runs this program. In a container the uid often has no name.
func operator() reconcile.Operator {
	o := reconcile.Operator{UID: os.Getuid()}
	if known, err := user.LookupId(strconv.Itoa(o.UID)); err == nil {
		o.User = known.Username
	}
	return o
}

// openAsOperator opens the database for a command that changes something in it. Its role
// needs the privileges for the use. The schema must be there, and is brought up to date as
// --migrate allows, though not by a dry run. The caller calls done at the end.
//
// A private PostgreSQL that does not run is started for the command and stopped by
// done: a start that fails for a drift names these commands, and stops it.
func (f *flags) openAsOperator(ctx context.Context, dryRun bool, use schema.Use, logger *slog.Logger) (pool *pgxpool.Pool, done func() error, err error) {
	stop := func() error { return nil }
	config, err := f.database()
	if errors.Is(err, embedded.ErrNotRunning) {
		config, stop, err = f.startExisting(ctx, logger, err)
	}
	if err != nil {
		return nil, nil, err
	}
	connector := postgres.Connector{Config: config, Timeout: f.connectTimeout, Logger: logger}
	if pool, err = connector.Connect(ctx); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	unwatch := warnOfWaits(ctx, pool, logger)
	done = func() error {
		unwatch()
		pool.Close()
		return stop()
	}
	mode := f.migrateMode()
	if dryRun && mode == schema.Auto {
		mode = schema.Check
	}
	needs := schema.Needs{Use: use, Existing: true, DryRun: dryRun}
	if err := schema.Ensure(ctx, pool, mode, needs, logger); err != nil {
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
	logger.InfoContext(ctx, "starting the private PostgreSQL for this command", "data_dir", dir)
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

// deliveryOf returns what becomes of the audit entries that a command has staged: an
// operator's role cannot deliver them, and their commit wakes the workers that run.
func deliveryOf(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) report.Delivery {
	limited, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	runs, err := leader.HasWorker(limited, pool)
	if err != nil {
		logger.WarnContext(ctx, "could not determine whether a worker delivers the audit entries", "error", err)
		return report.Undetermined
	}
	if runs {
		return report.Delivered
	}
	return report.Staged
}
