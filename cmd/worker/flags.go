package main

import (
	"os"
	"time"

	"golang.org/x/term"

	"provwatch/internal/config"
	"provwatch/internal/daemon"
	"provwatch/internal/drift"
	"provwatch/internal/embedded"
	"provwatch/internal/reconcile"
	"provwatch/internal/report"
	"provwatch/internal/schema"
	"provwatch/internal/sink"
)

// flags are the values of all settings. Each command uses the settings that it has.
type flags struct {
	envFile        string
	databaseFile   string
	config         string
	targetName     string
	target         *config.Target // that the flags are of, nil for none: see [flags.with]
	commandLine    []string       // flags that are not the target's, with their values, for the commands that messages propose
	dataDir        string
	connectTimeout time.Duration
	migrate        schema.Mode // empty for the default: see [flags.migrateMode]
	credentials    drift.CredentialMode
	unmanaged      drift.UnmanagedMode
	compat         compat
	output         format
	logFormat      format
	logLevel       level

	source     daemon.SourceMode
	slotMaxLag size

	envReload       reloadMode
	observe         bool
	onBootDrift     atBoot // empty for the default: see [flags.bootDrift]
	onReloadDrift   atReload
	announceSeed    bool
	resync          time.Duration
	alertAfter      time.Duration
	maxBackOff      time.Duration
	probeInterval   time.Duration
	takeOverAfter   time.Duration
	rollbackAfter   time.Duration
	answerTimeout   time.Duration
	httpAddress     string
	httpTokenFile   string
	debug           bool
	shutdownTimeout time.Duration

	sinks sinkFlags
	keep  age // or "forever"

	// Of a single command.
	dryRun   bool
	take     reconcile.Side
	withKeys bool
	reason   reason
	expires  end
	lasts    span // of a silence
	until    moment

	allowEmpty bool
	since      int64
	all        bool
	stream     sink.Stream
	older      age
}

// Settings with a few words that no other package knows.
type (
	format     string // --output and --log-format
	level      string // --log-level
	compat     string // --compat
	reloadMode string // --env-reload
	atBoot     string // --on-boot-drift
	atReload   string // --on-reload-drift
)

const (
	textFormat format = "text"
	jsonFormat format = "json"

	noCompat            compat = "none"
	upstreamCredentials compat = "upstream-credentials"

	autoReload   reloadMode = "auto"
	signalReload reloadMode = "signal"

	failAtBoot  atBoot = "fail"
	alertAtBoot atBoot = "alert"
	applyAtBoot atBoot = "apply"

	alertAtReload atReload = "alert"
	applyAtReload atReload = "apply"

	mustTake = "must be env (write the environment's fields to the database) or db (accept the database's)"
)

// sinkFlags are the values of the flags about sinks.
type sinkFlags struct {
	cluster string
	from    start
	giveUp  time.Duration

	webhookURL, webhookSecretFile, webhookCAFile string

	alertmanagerURL, alertmanagerCAFile, alertmanagerRunbookURL string

	natsURL, natsStream, natsSubject, natsCreds, natsCAFile string
}

// start is where a new sink begins (--sink-from).
type start string

const (
	fromStart start = "start"
	fromEnd   start = "end"
)

// migrateMode returns --migrate, or the default where it is not given.
func (f *flags) migrateMode() schema.Mode {
	switch {
	case f.migrate != "":
		return f.migrate
	case f.observe:
		return schema.Check
	}
	return schema.Auto
}

// bootDrift returns --on-boot-drift, or the default where it is not given.
func (f *flags) bootDrift() atBoot {
	switch {
	case f.onBootDrift != "":
		return f.onBootDrift
	case f.observe:
		return alertAtBoot
	}
	return failAtBoot
}

// requiresCredentials reports whether a seed fails when credentials differ.
func (f *flags) requiresCredentials() bool { return f.compat == upstreamCredentials }

// namesDatabase reports whether --database-url-file, DATABASE_URL or libpq's PG* variables
// name a database.
func (f *flags) namesDatabase() bool {
	if f.databaseFile != "" {
		return true
	}
	for _, variable := range []string{"DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"} {
		if os.Getenv(variable) != "" {
			return true
		}
	}
	return false
}

func (f *flags) printer() *report.Printer {
	color := term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return report.New(os.Stdout, f.output == jsonFormat, color)
}

func dataDirText() string {
	dir, err := embedded.DefaultDataDir()
	if err != nil {
		return "none"
	}
	return dir
}
