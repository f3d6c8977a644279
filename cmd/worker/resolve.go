package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/embedded"
	"provwatch/internal/environment"
	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/remedy"
	"provwatch/internal/report"
	"provwatch/internal/schema"
	"provwatch/internal/suggest"
)

func resolveCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "resolve NAME --take env|db",
		Short: "End a provider's drift: write the environment's fields to the database, or accept the database's",
		Args:  oneArgument,

		ValidArgsFunction: f.completeProvider,
		RunE: func(c *cobra.Command, args []string) (failed error) {
			ctx, logger := c.Context(), f.logger()
			if f.take == "" {
				return &usageError{errors.New("--take " + mustTake)}
			}
			if f.withKeys && f.take == databaseSide {
				return &usageError{errors.New("--with-keys goes with --take env")}
			}
			environment, err := f.environment(ctx, logger)
			if err != nil {
				return err
			}
			desired, err := f.named(environment, args[0])
			if err != nil {
				return err
			}
			keys := dbcrypt.NewRing(environment.Keys)
			pool, done, err := f.openAsOperator(ctx, logger)
			if err != nil {
				return err
			}
			defer func() { failed = errors.Join(failed, done()) }()
			var outcome reconcile.Outcome
			mode := f.resolvedCredentials()
			if f.take == environmentSide {
				outcome, err = reconcile.TakeEnv(ctx, pool, keys, desired, f.withKeys, mode, operator())
			} else {
				outcome, err = reconcile.TakeDB(ctx, pool, keys, desired, mode, operator())
			}
			if err != nil {
				return err
			}
			delivery := report.Delivered
			if outcome.Written() {
				delivery = deliveryOf(ctx, pool, logger)
			}
			return f.printer().Resolution(outcome, string(f.take), delivery)
		},
	}
}

// resolvedCredentials is how a resolution compares credentials. A difference that is logged
// alone is no drift, and leaves nothing to resolve.
func (f *flags) resolvedCredentials() drift.CredentialMode {
	switch {
	case f.requiresCredentials():
		return drift.RequireCredentials
	case f.credentials == drift.WarnCredentials:
		return drift.IgnoreCredentials
	default:
		return f.credentials
	}
}

func (f *flags) named(environment environment.Environment, name string) (provider.Desired, error) {
	for _, d := range environment.Providers {
		if d.Name == name {
			return d, nil
		}
	}
	names := make([]string, len(environment.Providers))
	for i, d := range environment.Providers {
		names[i] = d.Name
	}
	meant := ""
	if nearest := suggest.Misspelt(name, names); nearest != "" {
		meant = fmt.Sprintf("did you mean %s? Or ", nearest)
	}
	return provider.Desired{}, &usageError{remedy.Problem("the environment names no provider of that name; "+meant+"run ", remedy.Run("verify"), " with the same environment to list its providers")}
}

// operator is the actor of what a person does with this program.
func operator() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return "operator:" + u.Username
	}
	return fmt.Sprintf("operator:uid=%d", os.Getuid())
}

// openAsOperator opens the database for a command that changes providers. Its role
// need not have the privileges of a worker. The caller calls done at the end.
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
	needs := schema.Needs{Use: schema.Resolving}
	if err := schema.Ensure(ctx, pool, f.migrateMode(), needs, logger); err != nil {
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
	leads, err := leader.HasLeader(limited, pool)
	if err != nil {
		logger.WarnContext(ctx, "could not determine whether a worker delivers the audit entries", "error", err)
		return report.Undetermined
	}
	if leads {
		return report.Delivered
	}
	return report.Staged
}
