package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/config"
	"provwatch/internal/daemon"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/filewatch"
	"provwatch/internal/fleet"
	"provwatch/internal/postgres"
	"provwatch/internal/regularfile"
	"provwatch/internal/suggest"
)

// fileTarget is a target of --config that can run.
type fileTarget struct {
	flags *flags // of the target
	// database is nil for one whose URL is in a file, which is read when it is needed.
	database  *pgxpool.Config
	databases *databaseRegistry // of all targets
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
		own, findings := f.with(t)
		failed.Findings = append(failed.Findings, findings...)
		one := fileTarget{flags: own, databases: databases}
		switch database, err := own.targetDatabase(); {
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

// with returns the flags of a target, and its mistakes, each with the line of its value.
func (f *flags) with(t config.Target) (_ *flags, findings []config.Finding) {
	found := func(line int, err error) {
		findings = append(findings, config.Finding{Line: line, Target: t.Name, Message: err.Error()})
	}
	own := *f
	own.target, own.commandLine = &t, f.ownSettings()
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
	return &own, findings
}

// isUnusable reports whether an error of [flags.targetDatabase] is of a file that
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

// targetOpener is the [fleet.Opener] of a target.
type targetOpener struct {
	target *fileTarget
	files  *filewatch.Files // see [environmentReader]
	common daemon.Options   // of all targets, with the sinks of this one
}

// Open implements [fleet.Opener]. Each call reads the environment again.
func (o *targetOpener) Open(ctx context.Context, logger *slog.Logger) (daemon.Options, error) {
	t := o.target
	reader := environmentReader{t.flags, o.files}
	environment, err := reader.ReadEnvironment()
	if err != nil {
		return daemon.Options{}, err
	}
	logWarnings(ctx, logger, environment)
	database := t.database
	if database == nil {
		if database, err = t.flags.targetDatabase(); err != nil {
			return daemon.Options{}, err
		}
		if err := t.databases.register(t.flags.target.Name, database); err != nil {
			return daemon.Options{}, err
		}
	}
	options, err := t.flags.daemonOptions(o.common)
	options.Environment, options.Reader, options.Database = environment, reader, database
	options.Keys = dbcrypt.NewRing(environment.Keys)
	return options, err
}

// daemonOptions adds to options what the flags say of a database's daemon.
func (f *flags) daemonOptions(o daemon.Options) (daemon.Options, error) {
	maxLag, err := f.slotMaxLag.bytes()
	o.ConnectTimeout = f.connectTimeout
	o.Migrate = f.migrateMode()
	o.Observe = f.observe
	o.TolerateBootDrift, o.ApplyBootDrift = f.bootDrift() == alertAtBoot, f.bootDrift() == applyAtBoot
	o.ApplyReloadDrift = f.onReloadDrift == applyAtReload
	o.RequireCredentials = f.requiresCredentials()
	o.AnnounceSeed = f.announceSeed
	o.CredentialDrift = f.credentials
	o.Unmanaged = f.unmanaged
	o.Resync, o.AlertAfter, o.MaxBackOff = f.resync, f.alertAfter, f.maxBackOff
	o.ProbeInterval, o.AnswerTimeout = f.probeInterval, f.answerTimeout
	o.TakeOverAfter = f.takeOverAfter
	o.RollbackAfter = f.rollbackAfter
	o.Source = f.source
	o.SlotMaxLag = maxLag
	o.Keep = f.keep.duration()
	o.Site = f.site()
	return o, err
}

// runTargets is "worker run" with --config. The watcher watches the files of all targets.
func (f *flags) runTargets(ctx context.Context, common daemon.Options, watcher *filewatch.Watcher, reload <-chan struct{}) error {
	read, err := f.readTargets()
	if err != nil {
		return err
	}
	own := make([]*flags, len(read))
	for i, t := range read {
		own[i] = t.flags
	}
	logger := f.loggerOf(own)
	var targets []fleet.Target
	for i := range read {
		t := &read[i]
		name := t.flags.target.Name
		warnOfReaders(ctx, logger.With("target", name), t.flags.target.DatabaseURLFile)
		common := common
		if common.Sinks, err = t.flags.sinks.options(); err != nil {
			return err
		}
		requests := make(chan struct{}, 1)
		files := t.flags.watched(watcher, logger.With("target", name), requests)
		target := fleet.Target{Name: name, Opener: &targetOpener{target: t, files: files, common: common}, Reload: requests}
		if t.database != nil {
			target.Server = serverOf(t.database)
		}
		targets = append(targets, target)
	}
	return fleet.Run(ctx, targets, common.Serving, common.Version, logger, reload)
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
	var names []string
	for _, t := range targets {
		if t.flags.target.Name == f.targetName {
			*f = *t.flags
			return nil
		}
		names = append(names, t.flags.target.Name)
	}
	return &usageError{fmt.Errorf("%s has no target of the name that --target gives%s", f.config, suggest.DidYouMean(f.targetName, names))}
}
