package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"provwatch/internal/daemon"
	"provwatch/internal/drift"
	"provwatch/internal/embedded"
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
	target         *fileTarget // of --target, once it is selected
	dataDir        string
	connectTimeout time.Duration
	migrate        schema.Mode
	credentials    drift.CredentialMode
	compat         compat
	output         format
	logFormat      format
	logLevel       level

	source     daemon.SourceMode
	slotMaxLag size

	onBootDrift     atBoot
	announceSeed    bool
	resync          time.Duration
	maxBackOff      time.Duration
	probeInterval   time.Duration
	takeOverAfter   time.Duration
	answerTimeout   time.Duration
	httpAddress     string
	httpTokenFile   string
	debug           bool
	shutdownTimeout time.Duration

	sinks sinkFlags

	// Of a single command.
	dryRun   bool
	take     side
	withKeys bool
	since    int64
	all      bool
	stream   sink.Stream
}

// Settings with a few words that no other package knows.
type (
	format string // --output and --log-format
	level  string // --log-level
	compat string // --compat
	atBoot string // --on-boot-drift
	side   string // --take
)

const (
	textFormat format = "text"
	jsonFormat format = "json"

	noCompat            compat = "none"
	upstreamCredentials compat = "upstream-credentials"

	failAtBoot  atBoot = "fail"
	alertAtBoot atBoot = "alert"

	environmentSide side = "env"
	databaseSide    side = "db"
)

// newFlags returns the defaults.
func newFlags() *flags {
	f := new(flags)
	for _, s := range f.settings() {
		if s.initial == "" {
			continue
		}
		if err := s.value.Set(s.initial); err != nil {
			panic(fmt.Sprintf("the default of --%s: %v", s.name, err))
		}
	}
	return f
}

// problem is why the value of a flag cannot be used.
type problem struct {
	flag string
	// want goes on after the flag's name.
	want string
	// among is for flags that cannot be used together: all of them, and what to say in
	// terms of the file of --config.
	among  []string
	inFile string
}

func (p problem) Error() string {
	if p.among != nil {
		return "--" + p.flag + p.want
	}
	return flagOrVariable(p.flag) + " " + p.want
}

// check checks the values of the flags, before anything connects. The error says all
// that is wrong, each on a line of its own.
func (f *flags) check() error {
	var all []error
	for _, p := range f.problems() {
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil
	}
	return &usageError{errors.Join(all...)}
}

// problems returns why the flags cannot be used, as far as that is known without reading a
// file.
func (f *flags) problems() (all []problem) {
	for _, s := range f.settings() {
		if want := s.value.problem(); want != "" && s.isSet() {
			all = append(all, problem{flag: s.name, want: want})
		}
	}
	return append(append(all, f.conflicts()...), f.sinks.conflicts()...)
}

// conflicts returns which values cannot be used together.
func (f *flags) conflicts() (all []problem) {
	if f.requiresCredentials() && f.onBootDrift == alertAtBoot && f.credentials == drift.IgnoreCredentials {
		all = append(all, problem{
			flag: "compat", among: []string{"compat", "on-boot-drift", "credential-drift"},
			want: fmt.Sprintf("=%s finds credentials that differ at the start, which --on-boot-drift=alert leaves to the watch, "+
				"and that ignores them: use --on-boot-drift=fail, or set %s to warn or alert",
				upstreamCredentials, flagOrVariable("credential-drift")),
			inFile: fmt.Sprintf("compat: %s finds credentials that differ at the start, which on_boot_drift: alert leaves to the watch, "+
				"and that ignores them: use on_boot_drift: fail, or set credential_drift to warn or alert", upstreamCredentials),
		})
	}
	if f.databaseFile != "" && os.Getenv("DATABASE_URL") != "" {
		all = append(all, problem{flag: "database-url-file", want: "names the database, as DATABASE_URL does: unset one of them"})
	}
	if f.httpTokenFile != "" && f.httpAddress == "" {
		all = append(all, problem{flag: "http-token-file", want: "is for the status page on --http-addr, which is not set"})
	}
	if f.debug && f.httpAddress == "" {
		all = append(all, problem{flag: "debug", want: "serves the profiler on --http-addr, which is not set"})
	}
	return all
}

// requiresCredentials reports whether a seed fails when credentials differ.
func (f *flags) requiresCredentials() bool { return f.compat == upstreamCredentials }

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
