package main

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"provwatch/internal/daemon"
	"provwatch/internal/drift"
	"provwatch/internal/schema"
)

// more adds commands of a build that is not the worker's.
var more = func(*cobra.Command) {}

func newRootCommand() *cobra.Command {
	var f flags
	run := runCommand(&f)
	root := &cobra.Command{
		Use:   "worker",
		Short: "Seed AI providers from the environment into Postgres, and watch both for drift",
		Long: "worker seeds AI providers from CODER_AIBRIDGE_* variables into Postgres, never overwriting what an\n" +
			"operator changed, and then watches both sides and publishes an alert for each drift.\n\n" +
			"Without a command it does what \"worker run\" does. The database is that of DATABASE_URL or\n" +
			"--database-url-file, else of libpq's PG* variables; without any, \"worker run\" starts a private PostgreSQL\n" +
			"in --data-dir. \"worker resolve\" starts it where it does not run; the other commands use the one that runs\n" +
			"there.\n\n" +
			"A flag that is not about one call alone can be set by a variable as well: --log-level by\n" +
			"PROVWATCH_LOG_LEVEL. A flag given wins.\n\n" +
			"Exit codes: 0 ok, 1 failure, 2 drift found, 3 bad environment or flags, 4 database unreachable or schema unusable.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       buildInfo().Version,
	}
	// Unlike cobra's own message, [wrapArgs] has no default for it.
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		// A variable that cannot be used leaves its flag as it was.
		if err := errors.Join(setFromEnvironment(c.Flags()), f.check()); err != nil {
			return &usageError{err}
		}
		for _, unknown := range unknownVariables(c.Root(), os.Environ()) {
			f.logger().WarnContext(c.Context(), "the variable belongs to no flag and has no effect", "variable", unknown.name, "nearest", unknown.nearest)
		}
		if c == run || c == root { // which takes all targets
			if f.targetName != "" {
				return &usageError{errors.New("--target is for the other commands: worker run takes all targets of --config")}
			}
			return nil
		}
		return f.selectTarget()
	}

	p := root.PersistentFlags()
	p.StringVar(&f.envFile, "env-file", "", "read CODER_AIBRIDGE_* variables from this file as well; SIGHUP reads it again")
	p.StringVar(&f.databaseFile, "database-url-file", "", "file of the connection string, in place of DATABASE_URL; its user and password are read again for each connection")
	p.StringVar(&f.config, "config", "", "YAML file of the databases to watch, each with an environment of its own, in place of one database")
	p.StringVar(&f.targetName, "target", "", "with --config: the target that a command other than run is for")
	p.StringVar(&f.dataDir, "data-dir", "", "folder of the private PostgreSQL, used when no database is configured (default "+dataDirText()+")")
	p.DurationVar(&f.connectTimeout, "connect-timeout", 30*time.Second, "how long to try to reach the database at the start")
	p.StringVar(&f.migrate, "migrate", string(schema.Auto), "what to do about a schema that is not up to date: auto (migrate), check (fail), off")
	p.StringVar(&f.credentials, "credential-drift", string(drift.IgnoreCredentials), "what to do about keys that differ from the environment's: ignore, warn, alert")
	p.StringVar(&f.compat, "compat", compatNone, "as what program to seed: none, upstream-credentials (credentials must agree at the start as well)")
	p.StringVarP(&f.output, "output", "o", "text", "form of what is printed: text, json")
	p.StringVar(&f.logFormat, "log-format", "text", "form of the log on standard error: text, json")
	p.StringVar(&f.logLevel, "log-level", "info", "lowest level that is logged: debug, info, warn, error")

	p.StringVar(&f.source, "source", string(daemon.AutoSource), "where changes come from: auto (the WAL where it can be read, else notifications), notify, wal")

	// "worker" alone is "worker run", flags included.
	f.addRunFlags(root.Flags())
	root.RunE = run.RunE
	root.AddCommand(run, seedCommand(&f), verifyCommand(&f), resolveCommand(&f), watchCommand(&f), statusCommand(&f), migrateCommand(&f), slotCommand(&f), sinksCommand(&f), rolesCommand(&f), versionCommand(&f), completionCommand())
	more(root)
	f.complete(root)
	wrapArgs(root)
	for _, c := range root.Commands() {
		if !c.Runnable() {
			// One that only has commands of its own: anything else is a mistake.
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
		wrapArgs(c)
		for _, sub := range c.Commands() {
			wrapArgs(sub)
		}
	}
	root.InitDefaultHelpCmd()
	help, _, _ := root.Find([]string{"help"})
	help.Args = func(_ *cobra.Command, args []string) error {
		c, rest, err := root.Find(args)
		if err == nil && len(rest) > 0 {
			err = unknownCommand(c, rest)
		}
		return usage(c, err)
	}
	return root
}
