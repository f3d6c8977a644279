package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/config"
	"provwatch/internal/daemon"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/environment"
	"provwatch/internal/fleet"
	"provwatch/internal/postgres"
	"provwatch/internal/regularfile"
)

// fileTarget is a target of --config with the flags that hold for it.
type fileTarget struct {
	config.Target
	flags *flags
	// database is nil for one whose URL is in a file, which is read when it is needed.
	database  *pgxpool.Config
	databases *databaseRegistry // of all targets
	settings  []string          // of the command line, with their values, that the file does not have
}

// readTargets reads the targets of --config. The error holds everything that can be
// known to be wrong before anything connects.
func (f *flags) readTargets() ([]fileTarget, error) {
	if err := f.checkAlone(); err != nil {
		return nil, err
	}
	failed := &config.Error{Path: f.config}
	read, err := config.Read(f.config, overridable())
	if err != nil && !errors.As(err, &failed) {
		return nil, &usageError{err}
	}
	var targets []fileTarget
	databases := &databaseRegistry{byTarget: map[string]string{}}
	for _, t := range read {
		found := func(line int, err error) {
			failed.Findings = append(failed.Findings, config.Finding{Line: line, Target: t.Name, Message: err.Error()})
		}
		one := fileTarget{Target: t, databases: databases, settings: f.ownSettings()}
		one.flags = f.with(t, found)
		switch database, err := one.openDatabase(); {
		case t.DatabaseURLFile != "":
			// A file that is absent or empty may be filled by the time that the target starts.
			if isUnusable(err) {
				found(t.Line, err)
			}
		case t.DatabaseURLEnv == "" && t.Database == "": // which has been found
		case err != nil:
			found(t.Line, err)
		default:
			one.database = database
			if err := databases.register(t.Name, database); err != nil {
				found(t.Line, err)
			}
		}
		targets = append(targets, one)
	}
	if len(failed.Findings) > 0 {
		return nil, &usageError{failed}
	}
	return targets, nil
}

// overridable returns the flags that a target can have as fields.
func overridable() (flags []string) {
	for _, s := range newFlags().settings() {
		if s.has(perTarget) {
			flags = append(flags, s.name)
		}
	}
	return flags
}

// checkAlone refuses what each target has of its own.
func (f *flags) checkAlone() error {
	var set []string
	for _, s := range f.settings() {
		if s.has(perDatabase) && s.isSet() {
			set = append(set, flagOrVariable(s.name))
		}
	}
	if os.Getenv("DATABASE_URL") != "" {
		set = append(set, "DATABASE_URL")
	}
	if len(set) > 0 {
		return &usageError{fmt.Errorf("%s names the databases and their environments: it cannot be used together with %s",
			flagOrVariable("config"), strings.Join(set, ", "))}
	}
	return nil
}

// with returns the flags of a target. It calls found for each mistake, with the line of the
// value.
func (f *flags) with(t config.Target, found func(line int, err error)) *flags {
	own := *f
	table := own.settings()
	for _, o := range t.Overrides {
		s, _ := named(table, o.Flag)
		before := s.value.String()
		if err := s.value.Set(o.Value); err != nil {
			_ = s.value.Set(before) // a duration is 0 now
			found(o.Line, fmt.Errorf("%s must be %s", s.field(), wanted(s.value.Type(), o.Value)))
		}
	}
	for _, p := range own.problems() {
		line := t.Line
		for _, o := range t.Overrides {
			if o.Flag == p.flag || slices.Contains(p.among, o.Flag) && line == t.Line {
				line = o.Line
			}
		}
		if p.among != nil {
			found(line, errors.New(p.inFile))
		} else {
			s, _ := named(table, p.flag)
			found(line, fmt.Errorf("%s %s", s.field(), p.want))
		}
	}
	return &own
}

// openDatabase returns the configuration of the target's database.
func (t *fileTarget) openDatabase() (*pgxpool.Config, error) {
	database, err := t.parseDatabase(t.flags.logger().With("target", t.Name))
	if err != nil {
		return nil, err
	}
	postgres.Share(database)
	return database, nil
}

func (t *fileTarget) parseDatabase(logger *slog.Logger) (*pgxpool.Config, error) {
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

// isUnusable reports whether an error of [fileTarget.openDatabase] is of a file that
// holds, or is, something else than a file with a URL.
func isUnusable(err error) bool {
	var (
		text *postgres.ConnectionStringError
		kind *regularfile.TypeError
		size *regularfile.SizeError
		open *regularfile.WritableError
	)
	return errors.As(err, &text) || errors.As(err, &kind) || errors.As(err, &size) || errors.As(err, &open)
}

func serverOf(c *pgxpool.Config) string {
	return net.JoinHostPort(c.ConnConfig.Host, strconv.Itoa(int(c.ConnConfig.Port)))
}

func addressOf(c *pgxpool.Config) string { return serverOf(c) + "/" + c.ConnConfig.Database }

// databaseRegistry registers the database of each target as soon as it is known. Two targets
// cannot have the same database: only the leading target would be watched.
type databaseRegistry struct {
	mu       sync.Mutex        // of what follows
	byTarget map[string]string // the address of each target's database
}

// register registers the target's database. It fails where that is another target's.
func (r *databaseRegistry) register(target string, database *pgxpool.Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	address := addressOf(database)
	for other, registered := range r.byTarget {
		if registered == address && other != target {
			return fmt.Errorf("its database is that of target %s", other)
		}
	}
	r.byTarget[target] = address
	return nil
}

// environment reads the target's environment, and nothing of the others'.
func (t *fileTarget) environment() (environment.Environment, error) {
	if t.EnvFile != "" {
		return environment.Read(nil, t.EnvFile, t.reading()...)
	}
	return environment.Read(os.Environ(), "", append(t.reading(), environment.Prefix(t.EnvPrefix))...)
}

// reading is how the target's environment is read: the keys that encrypt secrets are the
// process's where the target has none of its own.
func (t *fileTarget) reading() []environment.Option {
	return append(t.flags.reading(), environment.KeysFrom(os.Environ(), t.EncryptionKeysFile))
}

// targetOpener is the [fleet.Opener] of a target.
type targetOpener struct {
	target *fileTarget
	common daemon.Options // of all targets, with the sinks of this one
}

// Open implements [fleet.Opener]. Each call reads the environment again.
func (o *targetOpener) Open(ctx context.Context, logger *slog.Logger) (daemon.Options, error) {
	t := o.target
	readEnvironment := withReaders(t.environment, t.EnvFile)
	environment, err := readEnvironment()
	if err != nil {
		return daemon.Options{}, err
	}
	logWarnings(ctx, logger, environment)
	database := t.database
	if database == nil {
		if database, err = t.openDatabase(); err != nil {
			return daemon.Options{}, err
		}
		if err := t.databases.register(t.Name, database); err != nil {
			return daemon.Options{}, err
		}
	}
	options, err := t.flags.daemonOptions(o.common)
	options.Site = t.site()
	options.Environment, options.ReadEnvironment, options.Database = environment, readEnvironment, database
	options.Keys = dbcrypt.NewRing(environment.Keys)
	return options, err
}

// daemonOptions adds to options what the flags say of a database's daemon.
func (f *flags) daemonOptions(o daemon.Options) (daemon.Options, error) {
	maxLag, err := f.slotMaxLag.bytes()
	o.ConnectTimeout = f.connectTimeout
	o.Migrate = f.migrate
	o.TolerateBootDrift = f.onBootDrift == alertAtBoot
	o.RequireCredentials = f.requiresCredentials()
	o.AnnounceSeed = f.announceSeed
	o.CredentialDrift = f.credentials
	o.Resync, o.MaxBackOff = f.resync, f.maxBackOff
	o.ProbeInterval, o.AnswerTimeout = f.probeInterval, f.answerTimeout
	o.TakeOverAfter = f.takeOverAfter
	o.Source = f.source
	o.SlotMaxLag = maxLag
	o.Site = f.site()
	return o, err
}

// runTargets is "worker run" with --config.
func (f *flags) runTargets(ctx context.Context, serving daemon.Serving, common daemon.Options, reload <-chan struct{}) error {
	read, err := f.readTargets()
	if err != nil {
		return err
	}
	logger := f.loggerOf(read)
	var targets []fleet.Target
	for i := range read {
		t := &read[i]
		warnOfReaders(ctx, logger.With("target", t.Name), t.DatabaseURLFile)
		common := common
		if common.Sinks, err = t.flags.sinks.options(); err != nil {
			return err
		}
		target := fleet.Target{Name: t.Name, Opener: &targetOpener{target: t, common: common}}
		if t.database != nil {
			target.Server = serverOf(t.database)
		}
		targets = append(targets, target)
	}
	return fleet.Run(ctx, targets, serving, common.Version, logger, reload)
}

// selectTarget makes the environment and the database of every command those of
// --target.
func (f *flags) selectTarget() error {
	if f.targetName == "" {
		return nil
	}
	if f.config == "" {
		return &usageError{fmt.Errorf("--target names one of the targets of %s, which is not set", flagOrVariable("config"))}
	}
	targets, err := f.readTargets()
	if err != nil {
		return err
	}
	for i := range targets {
		if t := &targets[i]; t.Name == f.targetName {
			*f = *t.flags
			f.target = t
			return nil
		}
	}
	return &usageError{fmt.Errorf("%s has no target of the name that --target gives", f.config)}
}

// needTarget refuses what a command has of its own where --config names it for each
// target.
func (f *flags) needTarget() error {
	if f.config != "" && f.target == nil {
		return &usageError{fmt.Errorf("%s names several databases: select one with --target", flagOrVariable("config"))}
	}
	return nil
}
