package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"provwatch/internal/daemon"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/history"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/report"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
	"provwatch/internal/suggest"
	"provwatch/internal/systemd"
	"provwatch/internal/verify"
	"provwatch/internal/wal"
)

func runCommand(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "run",
		Short: "Seed, then watch for drift until stopped (the default)",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			stopBy := deadlineAfter(ctx, f.shutdownTimeout)
			// A SIGHUP during the boot is kept for when the watch begins.
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			service := systemd.New(logger)
			// Until the end of the shutdown, which the watchdog covers as well.
			serving, served := context.WithCancel(context.WithoutCancel(ctx))
			defer served()
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
				return f.runTargets(ctx, logger, common.Serving, common, reload)
			}
			readEnvironment := withReaders(f.readEnvironment, f.envFile)
			environment, err := readEnvironment()
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
			options.Environment, options.ReadEnvironment, options.Database = environment, readEnvironment, config
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
	f.addRunFlags(command.Flags())
	return command
}

// deadlineAfter returns a function that tells until when stopping may take: for
// timeout from the moment at which ctx ended, from now if it has not.
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

func seedCommand(f *flags) *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use:   "seed",
		Short: "Seed once and exit, or with --dry-run print what a seed would do",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			environment, keys, pool, config, err := f.openWithEnvironment(ctx, logger)
			if err != nil {
				return err
			}
			defer pool.Close()
			if dryRun {
				var plan seed.Plan
				err := reading(ctx, pool, func(ctx context.Context) (err error) {
					plan, err = seed.DryRun(ctx, pool, environment.Providers, false, f.seedOptions(keys)...)
					return schema.Explain(ctx, pool, f.comparing(schema.Verifying), err)
				})
				if err != nil {
					return err
				}
				seed.WarnOfNoProviders(ctx, logger, len(plan.Steps), f.commandFlags())
				if err := f.printer().Plan(plan, false); err != nil {
					return err
				}
				if err := plan.Refusal(ctx, pool, keys, schema.Mode(f.migrate) == schema.Auto); err != nil {
					return fmt.Errorf("a seed would fail: %w", err)
				}
				return planError(plan)
			}
			defer warnOfWaits(ctx, pool, logger)()
			var plan seed.Plan
			err = postgres.Persist(ctx, config, f.connectTimeout, logger, func() error {
				// For the source that a worker with these flags would use.
				needs, err := daemon.SourceMode(f.source).Needs(ctx, pool)
				if err != nil {
					return err
				}
				needs.Use, needs.CommandFlags = f.comparing(schema.Seeding), f.commandFlags()
				if err := schema.Ensure(ctx, pool, schema.Mode(f.migrate), needs, logger); err != nil {
					return err
				}
				if schema.Mode(f.migrate) == schema.Auto {
					if _, err := keys.Register(ctx, pool); err != nil {
						return err
					}
				}
				plan, err = seed.Seed(ctx, pool, environment.Providers, false, logger, f.seedOptions(keys)...)
				return err
			})
			if err != nil {
				return err
			}
			deliver(ctx, pool, logger)
			warnOfServed(ctx, pool, keys, logger)
			seed.LogUnheard(ctx, logger, plan)
			seed.WarnOfNoProviders(ctx, logger, len(plan.Steps), f.commandFlags())
			return f.printer().Plan(plan, true)
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "print the plan and write nothing")
	f.addSeedFlags(command.Flags())
	return command
}

// seedOptions are how a seed, or whatever foretells one, is done.
func (f *flags) seedOptions(keys *dbcrypt.Ring) []seed.Option {
	options := []seed.Option{seed.WithKeys(keys), seed.ForTarget(f.commandFlags()), seed.WithRemedies(f.remedies())}
	if f.requiresCredentials() {
		options = append(options, seed.RequireCredentials())
	}
	if f.announceSeed {
		options = append(options, seed.Announce())
	}
	return options
}

// comparing adds to a use what comparing credentials needs, if they are.
func (f *flags) comparing(use schema.Use) schema.Use {
	if f.requiresCredentials() {
		use |= schema.Credentials
	}
	return use
}

// planError turns a plan that holds a drift, which has been printed, into an
// exit code.
func planError(plan seed.Plan) error {
	var drift *seed.DriftError
	if err := plan.Err(); errors.As(err, &drift) {
		if drift.Comparable() {
			return errDrift
		}
		return errNotComparable
	}
	return nil
}

// errNotComparable says that a provider, which has been printed, cannot be compared.
var errNotComparable = errors.New("a provider's row cannot be compared with the environment")

func verifyCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Compare the database with the environment once; exit 2 when they differ",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			environment, keys, pool, _, err := f.openWithEnvironment(ctx, logger)
			if err != nil {
				return err
			}
			defer pool.Close()
			use, mode := f.comparing(schema.Verifying), drift.CredentialMode(f.credentials)
			if mode.Compares() {
				use |= schema.Credentials
			}
			var plan seed.Plan
			err = reading(ctx, pool, func(ctx context.Context) (err error) {
				plan, err = seed.DryRun(ctx, pool, environment.Providers, mode.Compares(), f.seedOptions(keys)...)
				return schema.Explain(ctx, pool, use, err)
			})
			if err != nil {
				return err
			}
			// Where a start would fail for them they are a drift.
			if mode == drift.WarnCredentials && !f.requiresCredentials() {
				for i := range plan.Steps {
					o := &plan.Steps[i].Observation
					verify.WarnCredentials(ctx, logger, *o)
					*o = mode.Judged(*o)
				}
			}
			seed.WarnOfNoProviders(ctx, logger, len(plan.Steps), f.commandFlags())
			if err := f.printer().Verification(plan); err != nil {
				return err
			}
			switch {
			case len(report.NotComparable(plan)) > 0:
				return errNotComparable
			case len(report.Drifts(plan)) > 0:
				return errDrift
			}
			return nil
		},
	}
}

func resolveCommand(f *flags) *cobra.Command {
	var take string
	var withKeys bool
	command := &cobra.Command{
		Use:   "resolve NAME --take env|db",
		Short: "End a provider's drift: write the environment's fields to the database, or accept the database's",
		Args:  oneArgument,
		RunE: func(c *cobra.Command, args []string) (failed error) {
			ctx, logger := c.Context(), f.logger()
			if take != "env" && take != "db" {
				return &usageError{errors.New("--take must be env (write the environment's fields to the database) or db (accept the database's)")}
			}
			if withKeys && take == "db" {
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
			compare := f.credentials == string(drift.AlertCredentials)
			if take == "env" {
				outcome, err = reconcile.TakeEnv(ctx, pool, keys, desired, withKeys, compare, operator(), f.seedOptions(keys)...)
			} else {
				outcome, err = reconcile.TakeDB(ctx, pool, keys, desired, compare, operator(), f.seedOptions(keys)...)
			}
			if err != nil {
				return err
			}
			delivery := report.Delivered
			if outcome.Written() {
				delivery = handOver(ctx, pool, logger)
			}
			return f.printer().Resolution(outcome, take, delivery)
		},
	}
	command.ValidArgsFunction = f.completeProvider
	command.Flags().StringVar(&take, "take", "", "which side stands: env, db")
	command.Flags().BoolVar(&withKeys, "with-keys", false, "with --take env: replace the stored keys and Bedrock credentials by the environment's as well")
	return command
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
	return provider.Desired{}, &usageError{fmt.Errorf("the environment names no provider of that name; %srun \"worker verify%s\" with the same environment to see those that it names", meant, f.commandFlags())}
}

// operator is the actor of what a person does with this program.
func operator() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return "operator:" + u.Username
	}
	return fmt.Sprintf("operator:uid=%d", os.Getuid())
}

func watchCommand(f *flags) *cobra.Command {
	var since int64
	command := &cobra.Command{
		Use:   "watch",
		Short: "Print drift alerts as they are published, until stopped",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case !c.Flags().Changed("since"):
				since = history.New
			case since < 0:
				return &usageError{errors.New("--since is the seq of an alert, or 0 for all")}
			}
			ctx, logger := c.Context(), f.logger()
			pool, config, err := f.open(ctx, logger)
			if err != nil {
				return unlessStopped(ctx, err)
			}
			defer pool.Close()
			defer warnOfWaits(ctx, pool, logger)()
			if err := schema.Listenable(ctx, pool); err != nil {
				return unlessStopped(ctx, err)
			}
			err = history.Follow(ctx, pool, config, since, logger, f.printer().Alert)
			return unlessStopped(ctx, schema.Explain(ctx, pool, schema.Watching, err))
		},
	}
	command.Flags().Int64Var(&since, "since", 0, "print the alerts above this seq first; 0 prints all (default: only new ones)")
	return command
}

func slotCommand(f *flags) *cobra.Command {
	command := &cobra.Command{Use: "slot", Short: "Manage the replication slot of the WAL source"}
	command.AddCommand(&cobra.Command{
		Use:   "drop",
		Short: "Drop the replication slot, for uninstalling; a worker that runs makes it anew",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			pool, _, err := f.open(ctx, logger)
			if err != nil {
				return err
			}
			defer pool.Close()
			defer warnOfWaits(ctx, pool, logger)()
			server, err := wal.Inspect(ctx, pool)
			if server.Slot == "" {
				return err
			}
			dropped, err := wal.DropSlot(ctx, pool, server.Slot)
			if err != nil {
				return err
			}
			return f.printer().SlotDropped(server.Slot, dropped)
		},
	})
	return command
}

func versionCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit it was built from, and the version of Go",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			return f.printer().Version(buildInfo())
		},
	}
}

// environment reads the environment and logs what it warns of. Commands call it
// before they open the database: it is checked before anything connects.
func (f *flags) environment(ctx context.Context, logger *slog.Logger) (environment.Environment, error) {
	environment, err := f.readEnvironment()
	if err == nil {
		logWarnings(ctx, logger, environment)
	}
	return environment, err
}

func logWarnings(ctx context.Context, logger *slog.Logger, environment environment.Environment) {
	for _, warning := range environment.Warnings {
		logger.WarnContext(ctx, warning.Message, "variable", warning.Variable)
	}
}
