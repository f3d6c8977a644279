package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"provwatch/internal/drift"
	"provwatch/internal/embedded"
	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/report"
)

// flags are the values of all flags; each command uses those that it has.
type flags struct {
	envFile        string
	databaseFile   string
	config         string
	targetName     string
	target         *fileTarget // of --target, once it is selected
	dataDir        string
	connectTimeout time.Duration
	migrate        string
	credentials    string
	compat         string
	output         string
	logFormat      string
	logLevel       string

	source     string
	slotMaxLag string

	onBootDrift     string
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
}

func (f *flags) addRunFlags(p *pflag.FlagSet) {
	p.StringVar(&f.onBootDrift, "on-boot-drift", "fail", "what a drift found by the seed does: fail (exit 2), alert (publish it and go on watching)")
	p.DurationVar(&f.resync, "resync", 5*time.Minute, "how often everything is verified without being notified, give or take a tenth")
	p.DurationVar(&f.maxBackOff, "max-backoff", 15*time.Second, "longest wait, before jitter, until a lost connection or a failed verification is tried again")
	p.DurationVar(&f.probeInterval, "probe-interval", 10*time.Second, "how long the listening connection may be quiet until the server is asked for an answer on it")
	p.DurationVar(&f.answerTimeout, "answer-timeout", 10*time.Second, "how long that answer, a connection of the listener, or a verification of what a notification names may take until the connection is given up; a statement that lasts as long, or is held up for half of it, makes the worker not ready")
	p.DurationVar(&f.takeOverAfter, "takeover-after", leader.TakeOverAfter, "how long a leader may show no sign of life until a standby takes over from it, at least 3s; after half of that the standby is not ready")
	p.StringVar(&f.slotMaxLag, "slot-max-lag", "4GiB", "how much WAL the replication slot may retain before it is given up, such as 500MB; 0 for no limit")
	p.StringVar(&f.httpAddress, "http-addr", "", "serve the status page, /metrics, /healthz and /readyz on this address, such as 127.0.0.1:9464 (default off)")
	p.StringVar(&f.httpTokenFile, "http-token-file", "", "file of the token that the status page and the profiler ask for; without one they are served on loopback addresses alone")
	p.BoolVar(&f.debug, "debug", false, "serve the Go profiler on --http-addr as well, to those who may see the status page")
	p.DurationVar(&f.shutdownTimeout, "shutdown-timeout", 10*time.Second, "how long to take for stopping after SIGTERM or SIGINT")
	f.addSeedFlags(p)
	f.sinks.add(p)
}

// addSeedFlags adds the flags of whatever seeds.
func (f *flags) addSeedFlags(p *pflag.FlagSet) {
	p.BoolVar(&f.announceSeed, "announce-seed", false, "send one empty notification on ai_providers_changed after a seed that inserted something, for a gateway that runs already")
}

// choice is a flag that takes one of a few values.
type choice struct {
	flag, value string
	of          []string
}

func (f *flags) choices() []choice {
	return []choice{
		{"migrate", f.migrate, []string{"auto", "check", "off"}},
		{"credential-drift", f.credentials, []string{"ignore", "warn", "alert"}},
		{"compat", f.compat, []string{compatNone, compatUpstreamCredentials}},
		{"output", f.output, []string{"text", "json"}},
		{"log-format", f.logFormat, []string{"text", "json"}},
		{"log-level", f.logLevel, []string{"debug", "info", "warn", "error"}},
		{"on-boot-drift", f.onBootDrift, []string{"fail", "alert"}},
		{"source", f.source, []string{"auto", "notify", "wal"}},
	}
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
	if variable := variableOf(p.flag); variable != "" {
		return fmt.Sprintf("--%s (or %s) %s", p.flag, variable, p.want)
	}
	return fmt.Sprintf("--%s %s", p.flag, p.want)
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

func (f *flags) problems() (all []problem) {
	for _, choice := range f.choices() {
		if !slices.Contains(choice.of, choice.value) {
			all = append(all, problem{flag: choice.flag, want: "must be one of " + strings.Join(choice.of, ", ")})
		}
	}
	if f.requiresCredentials() && f.onBootDrift == "alert" && f.credentials == string(drift.IgnoreCredentials) {
		all = append(all, problem{
			flag: "compat", among: []string{"compat", "on-boot-drift", "credential-drift"},
			want: fmt.Sprintf("=%s finds credentials that differ at the start, which --on-boot-drift=alert leaves to the watch, "+
				"and that ignores them: use --on-boot-drift=fail, or set --credential-drift (or %s) to warn or alert",
				compatUpstreamCredentials, variableOf("credential-drift")),
			inFile: fmt.Sprintf("compat: %s finds credentials that differ at the start, which on_boot_drift: alert leaves to the watch, "+
				"and that ignores them: use on_boot_drift: fail, or set credential_drift to warn or alert", compatUpstreamCredentials),
		})
	}
	for _, duration := range []struct {
		flag  string
		value time.Duration
	}{
		{"connect-timeout", f.connectTimeout},
		{"resync", f.resync},
		{"max-backoff", f.maxBackOff},
		{"probe-interval", f.probeInterval},
		{"answer-timeout", f.answerTimeout},
		{"shutdown-timeout", f.shutdownTimeout},
	} {
		if duration.value <= 0 {
			all = append(all, problem{flag: duration.flag, want: "must be positive, such as 30s"})
		}
	}
	if f.takeOverAfter < leader.MinTakeOverAfter {
		all = append(all, problem{flag: "takeover-after", want: "must be at least 3s"})
	}
	if f.httpAddress != "" {
		_, port, err := net.SplitHostPort(f.httpAddress)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			all = append(all, problem{flag: "http-addr", want: "must be HOST:PORT, such as 127.0.0.1:9464"})
		}
	}
	if _, err := f.maxLag(); err != nil {
		all = append(all, problem{flag: "slot-max-lag", want: "must be an amount of bytes, such as 500MB or 4GiB"})
	}
	if f.databaseFile != "" && os.Getenv("DATABASE_URL") != "" {
		all = append(all, problem{flag: "database-url-file", want: "names the database, as DATABASE_URL does: unset one of them"})
	}
	if postgres.HoldsConnectionString(f.dataDir) { // which would be shown as a path
		all = append(all, problem{flag: "data-dir", want: "must be the path of a folder; a connection string goes into DATABASE_URL, or into the file of --database-url-file"})
	}
	if f.httpTokenFile != "" && f.httpAddress == "" {
		all = append(all, problem{flag: "http-token-file", want: "is for the status page on --http-addr, which is not set"})
	}
	if f.debug && f.httpAddress == "" {
		all = append(all, problem{flag: "debug", want: "serves the profiler on --http-addr, which is not set"})
	}
	return append(all, f.sinks.problems()...)
}

// The values of --compat.
const (
	compatNone                = "none"
	compatUpstreamCredentials = "upstream-credentials"
)

// requiresCredentials reports whether a seed fails when credentials differ.
func (f *flags) requiresCredentials() bool { return f.compat == compatUpstreamCredentials }

func (f *flags) logger() *slog.Logger {
	var level slog.Level
	// check has made sure of the value.
	_ = level.UnmarshalText([]byte(f.logLevel))
	options := &slog.HandlerOptions{Level: level}
	if f.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

func (f *flags) printer() *report.Printer {
	color := term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return report.New(os.Stdout, f.output == "json", color)
}

// maxLag returns --slot-max-lag in bytes.
func (f *flags) maxLag() (int64, error) {
	bytes, err := humanize.ParseBytes(f.slotMaxLag)
	if err != nil || bytes > math.MaxInt64 {
		return 0, errors.New("not an amount of bytes")
	}
	return int64(bytes), nil
}

func dataDirText() string {
	dir, err := embedded.DefaultDataDir()
	if err != nil {
		return "none"
	}
	return dir
}
