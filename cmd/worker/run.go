package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"provwatch/internal/daemon"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/embedded"
	"provwatch/internal/observe"
	"provwatch/internal/postgres"
	"provwatch/internal/secret"
	"provwatch/internal/systemd"
	"provwatch/internal/web"
)

func runCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Seed, then watch for drift until stopped (the default)",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			stopBy := deadlineAfter(ctx, f.shutdownTimeout)
			service := systemd.New(logger)
			// Until the end of the shutdown, which the watchdog covers as well.
			serving, served := context.WithCancel(context.WithoutCancel(ctx))
			defer served()
			reload, ignore := hangups()
			defer ignore()
			watcher, stopWatching := startWatcher(ctx, logger)
			defer stopWatching()
			token, err := f.httpToken()
			if err != nil {
				return err
			}
			warnOfReaders(ctx, logger, f.databaseFile, f.httpTokenFile, f.sinks.webhookSecretFile, f.sinks.natsCreds)
			common := daemon.Options{
				Serving: daemon.Serving{HTTPAddress: f.httpAddress, HTTPToken: token, Debug: f.debug, Systemd: service},
				StopBy:  stopBy,
				Version: buildInfo().Version,
				Logger:  logger,
			}
			if f.config != "" {
				go service.Run(serving)
				return f.runTargets(ctx, common, watcher, reload)
			}
			reader := environmentReader{f, f.watched(watcher, logger, reload)}
			environment, err := reader.ReadEnvironment()
			if err != nil {
				return err
			}
			logWarnings(ctx, logger, environment)
			options, err := f.daemonOptions(common)
			if err != nil {
				return err
			}
			if options.Sinks, err = f.sinks.options(); err != nil {
				return err
			}
			config, stop, err := f.startDatabase(ctx, logger)
			if err != nil {
				return unlessStopped(ctx, err)
			}
			if stop != nil {
				reserve := min(f.shutdownTimeout/2, 5*time.Second) // for stopping the private server
				options.StopBy = func() time.Time { return stopBy().Add(-reserve) }
			}
			options.Environment, options.Reader, options.Database = environment, reader, config
			options.Keys = dbcrypt.NewRing(environment.Keys)
			go service.Run(serving)
			err = daemon.Run(ctx, options, reload)
			if stop == nil {
				return err
			}
			stopping, cancel := context.WithDeadline(context.WithoutCancel(ctx), stopBy())
			defer cancel()
			return errors.Join(err, stop(stopping))
		},
	}
}

// hangups returns a channel that gets a value after a SIGHUP, until stop is called. It keeps
// one during the boot for when the watch begins.
func hangups() (_ chan struct{}, stop func()) {
	signals, requests := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGHUP)
	var forwarder sync.WaitGroup
	forwarder.Go(func() {
		for range signals {
			select {
			case requests <- struct{}{}:
			default: // one is on its way
			}
		}
	})
	return requests, func() {
		signal.Stop(signals)
		close(signals) // nothing is sent once Stop has returned
		forwarder.Wait()
	}
}

// httpToken reads --http-token-file.
func (f *flags) httpToken() (secret.Text, error) {
	if f.httpTokenFile == "" {
		return secret.Text{}, nil
	}
	token, err := web.ReadToken(f.httpTokenFile)
	if err != nil {
		return secret.Text{}, &usageError{fmt.Errorf("%s: %w", flagOrVariable("http-token-file"), err)}
	}
	return token, nil
}

// deadlineAfter returns a function that returns the deadline of a stop: timeout after ctx
// ended, or from now if it has not.
func deadlineAfter(ctx context.Context, timeout time.Duration) func() time.Time {
	var ended atomic.Pointer[time.Time]
	context.AfterFunc(ctx, func() {
		now := time.Now()
		ended.Store(&now)
	})
	return func() time.Time {
		if at := ended.Load(); at != nil {
			return at.Add(timeout)
		}
		return time.Now().Add(timeout)
	}
}

// unlessStopped returns no error when the reason for err is that the worker was
// asked to stop, which is how a command that runs until then ends.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
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
