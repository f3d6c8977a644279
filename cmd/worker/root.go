package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
)

// more adds commands of a build that is not the worker's.
var more = func(*cobra.Command) {}

func newRootCommand() *cobra.Command { return rootCommand(newFlags()) }

// rootCommand returns the program, whose commands set f.
func rootCommand(f *flags) *cobra.Command {
	run := runCommand(f)
	root := &cobra.Command{
		Use:   "worker",
		Short: "Seed AI providers from the environment into Postgres, and watch both for drift",
		Long: "worker seeds AI providers from CODER_AIBRIDGE_* variables into Postgres, never overwriting what an\n" +
			"operator changed, and then watches both sides and publishes an alert for each drift.\n\n" +
			"The default command is \"worker run\". The database is that of DATABASE_URL or\n" +
			"--database-url-file, else of libpq's PG* variables; without any, \"worker run\" starts a private PostgreSQL\n" +
			"in --data-dir. Commands by which an operator changes something, and \"worker plan\", start that server if it\n" +
			"does not run; the other commands need a running one.\n\n" +
			"Every flag except the per-command ones has an environment variable: --log-level has PROVWATCH_LOG_LEVEL.\n" +
			"A flag overrides its variable.\n\n" +
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
		for _, unknown := range unknownVariables(os.Environ()) {
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

	// "worker" alone is "worker run", flags included.
	root.RunE = run.RunE
	root.AddCommand(run, seedCommand(f), verifyCommand(f), planCommand(f), applyCommand(f), resolveCommand(f), silenceCommand(f), silencesCommand(f), unsilenceCommand(f), watchCommand(f), pruneCommand(f), statusCommand(f), migrateCommand(f), slotCommand(f), sinksCommand(f), rolesCommand(f), versionCommand(f), completionCommand())
	more(root)
	f.declare(root)
	visit(root, func(c *cobra.Command) {
		if !c.Runnable() {
			// It only has commands of its own: anything else is a mistake.
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
		if c.ValidArgsFunction == nil {
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
		wrapArgs(c)
	})
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
