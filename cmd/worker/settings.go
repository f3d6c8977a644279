package main

import (
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/daemon"
	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/reconcile"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/sink"
)

// setting is a row of the table of [flags.settings]. Flags, variables, the fields of
// --config, the completion of shells and docs/configuration.md are read from it.
type setting struct {
	name   string // of the flag
	letter string // the short form of the flag, empty for none
	// commands have the flag: all of them without a list. "worker" alone has those of "run".
	commands []string
	traits   trait
	value    value  // what the setting accepts, bound to the [flags] of the table
	initial  string // the default; empty for no value
	// shown is the default that the help prints of a setting whose default depends on another
	// setting: it has no value until it is given.
	shown string
	// completion is what a shell offers for the value.
	completion completion
	usage      string
}

// trait is a set of properties of a setting.
type trait int

const (
	// perCall settings describe a single call. They have no variable: they must not stay
	// behind in an environment.
	perCall trait = 1 << iota
	// perTarget settings are fields of a target in the file of --config as well.
	perTarget
	// perDatabase settings exclude --config, which has them for each target.
	perDatabase
	// repeated settings that differ from their default are repeated by the commands that
	// messages propose.
	repeated
)

// completion is what a shell offers for the value of a flag.
type completion int

const (
	nothing completion = iota
	words              // of an enum
	files
	folders
	targets // names of the targets of --config
)

func (s setting) has(t trait) bool { return s.traits&t != 0 }

const variablePrefix = "PROVWATCH_"

// variable returns the environment variable of a setting, empty for a setting without one.
func (s setting) variable() string {
	if s.has(perCall) {
		return ""
	}
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// field returns the name of a setting in the file of --config.
func (s setting) field() string { return strings.ReplaceAll(s.name, "-", "_") }

// isSet reports whether the value differs from the default.
func (s setting) isSet() bool { return s.value.String() != s.initial }

// named returns the setting of a flag, and whether there is one. Flags of cobra, such as
// --help, are not settings.
func named(table []setting, flag string) (setting, bool) {
	i := slices.IndexFunc(table, func(s setting) bool { return s.name == flag })
	if i < 0 {
		return setting{}, false
	}
	return table[i], true
}

// variableOf returns the variable of a flag, empty for a flag without one.
func variableOf(flag string) string {
	s, found := named(new(flags).settings(), flag)
	if !found {
		return ""
	}
	return s.variable()
}

// flagOrVariable names both ways to give a setting on the command line.
func flagOrVariable(flag string) string {
	if variable := variableOf(flag); variable != "" {
		return fmt.Sprintf("--%s (or %s)", flag, variable)
	}
	return "--" + flag
}

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

// settings is the table of all settings, bound to f.
func (f *flags) settings() []setting {
	run, seed := []string{"run"}, []string{"run", "seed"}
	return []setting{
		{name: "env-file", traits: perDatabase | repeated, value: (*text)(&f.envFile), completion: files,
			usage: "also read CODER_AIBRIDGE_* variables from this file; a running worker rereads the file when it changes"},
		{name: "database-url-file", traits: perDatabase | repeated, value: (*text)(&f.databaseFile), completion: files,
			usage: "file of the connection string, instead of DATABASE_URL; each new connection rereads its user and password"},
		{name: "data-dir", traits: perDatabase | repeated, value: folder{(*text)(&f.dataDir)}, completion: folders,
			usage: "folder of the private PostgreSQL, used when no database is configured (default " + dataDirText() + ")"},
		{name: "config", value: (*text)(&f.config), completion: files,
			usage: "YAML file of several databases to watch, each with its own environment"},
		{name: "target", traits: perCall, value: (*text)(&f.targetName), completion: targets,
			usage: "with --config: the target of a command other than run"},
		{name: "connect-timeout", value: duration{value: &f.connectTimeout}, initial: "30s",
			usage: "how long to retry the first connection to the database"},
		{name: "output", letter: "o", value: oneOf(&f.output, textFormat, jsonFormat), initial: "text", completion: words,
			usage: "format of the output: text, json"},
		{name: "log-format", value: oneOf(&f.logFormat, textFormat, jsonFormat), initial: "text", completion: words,
			usage: "format of the log on standard error: text, json"},
		{name: "log-level", value: oneOf(&f.logLevel, "debug", "info", "warn", "error"), initial: "info", completion: words,
			usage: "lowest level to log: debug, info, warn, error"},

		{name: "migrate", traits: perTarget | repeated, value: oneOf(&f.migrate, schema.Auto, schema.Check, schema.Off), shown: string(schema.Auto), completion: words,
			usage: "how to handle an outdated schema: auto (migrate), check (fail), off"},
		{name: "credential-drift", traits: perTarget | repeated, completion: words, initial: string(drift.IgnoreCredentials),
			value: oneOf(&f.credentials, drift.IgnoreCredentials, drift.WarnCredentials, drift.AlertCredentials),
			usage: "how to handle keys that differ from the environment's: ignore, warn, alert"},
		{name: "unmanaged", commands: []string{"run", "verify"}, traits: perTarget, completion: words, initial: string(drift.AlertUnmanaged),
			value: oneOf(&f.unmanaged, drift.IgnoreUnmanaged, drift.WarnUnmanaged, drift.AlertUnmanaged),
			usage: "how to handle enabled rows that the environment does not name: ignore, warn, alert (each that was not there at the first verification)"},
		{name: "compat", traits: perTarget | repeated, value: oneOf(&f.compat, noCompat, upstreamCredentials), initial: string(noCompat), completion: words,
			usage: "compatibility mode of the seed: none, upstream-credentials (credentials must also agree at the start)"},
		{name: "env-reload", commands: run, traits: perTarget, value: oneOf(&f.envReload, autoReload, signalReload), initial: string(autoReload), completion: words,
			usage: "when to reread the environment and the files that it names: auto (when a file changes, and at SIGHUP), signal (at SIGHUP)"},
		{name: "observe", commands: run, traits: perTarget, value: (*toggle)(&f.observe), initial: "false",
			usage: "write nothing to the provider tables: seed nothing, migrate nothing (--migrate is check or off), and use the publication or the triggers that the owner made, else verify everything every 45 s"},
		{name: "on-boot-drift", commands: run, traits: perTarget, value: oneOf(&f.onBootDrift, failAtBoot, alertAtBoot, applyAtBoot), shown: string(failAtBoot), completion: words,
			usage: "how to handle drift that the seed finds: fail (exit 2), alert (publish it and keep watching), apply (write what the environment has changed, or fail); with --observe always alert"},
		{name: "on-reload-drift", commands: run, traits: perTarget, value: oneOf(&f.onReloadDrift, alertAtReload, applyAtReload), initial: string(alertAtReload), completion: words,
			usage: "how to handle drift when the environment is reread: alert, apply (write what the environment has changed, and alert the rest)"},
		{name: "announce-seed", commands: seed, traits: perTarget, value: (*toggle)(&f.announceSeed), initial: "false",
			usage: "after a seed that inserted rows, send an empty notification on ai_providers_changed, for a running gateway"},

		{name: "source", traits: perTarget, value: oneOf(&f.source, daemon.AutoSource, daemon.NotifySource, daemon.WALSource), initial: string(daemon.AutoSource), completion: words,
			usage: "source of changes: auto (the WAL if it can be read, else notifications), notify, wal"},
		{name: "alert-after", commands: run, traits: perTarget, value: duration{value: &f.alertAfter, orZero: true}, initial: "0s",
			usage: "how long a drift must last until it is alerted, such as 30s; 0 alerts at once"},
		{name: "resync", commands: run, traits: perTarget, value: duration{value: &f.resync}, initial: "5m0s",
			usage: "how often to verify everything without a notification, ±10 % jitter"},
		{name: "max-backoff", commands: run, value: duration{value: &f.maxBackOff}, initial: "15s",
			usage: "longest wait, before jitter, between retries of a lost connection or a failed verification"},
		{name: "probe-interval", commands: run, value: duration{value: &f.probeInterval}, initial: "10s",
			usage: "how long the listening connection may be idle before the worker probes it"},
		{name: "answer-timeout", commands: run, value: duration{value: &f.answerTimeout}, initial: "10s",
			usage: "how long a probe, a connection attempt of the listener or a notified verification may take before the worker closes the connection; a statement that runs this long, or is blocked for half this long, makes the worker not ready"},
		{name: "shutdown-timeout", commands: run, value: duration{value: &f.shutdownTimeout}, initial: "10s",
			usage: "how long a shutdown may take after SIGTERM or SIGINT"},
		{name: "takeover-after", commands: run, value: duration{value: &f.takeOverAfter, least: leader.MinTakeOverAfter}, initial: leader.TakeOverAfter.String(),
			usage: "how long a leader may show no sign of life before a standby takes over, at least 3s; the standby is not ready after half of that"},
		{name: "rollback-after", commands: []string{"run", "seed", "status"}, value: duration{value: &f.rollbackAfter, least: rollout.MinWindow}, initial: rollout.Window.String(),
			usage: "how long no worker with a newer environment must have been seen before an older environment (after a rollback) may seed and alert again, at least 3s; the same for all workers of a database"},
		{name: "http-addr", commands: run, value: address{(*text)(&f.httpAddress)},
			usage: "serve the status page, /metrics, /healthz and /readyz on this address, such as 127.0.0.1:9464 (default off)"},
		{name: "http-token-file", commands: run, value: (*text)(&f.httpTokenFile), completion: files,
			usage: "file of the token that the status page and the profiler require; without a token, they are served on loopback addresses only"},
		{name: "slot-max-lag", commands: run, traits: perTarget, value: &f.slotMaxLag, initial: "4GiB",
			usage: "how much WAL the replication slot may retain before the worker gives the slot up, such as 500MB; 0 for no limit"},
		{name: "debug", commands: run, value: (*toggle)(&f.debug), initial: "false",
			usage: "also serve the Go profiler on --http-addr, with the access rules of the status page"},

		{name: "keep", commands: []string{"run", "prune"}, traits: perTarget, value: lifetime{&f.keep}, initial: forever,
			usage: "how long to keep alerts, audit entries, acceptances that no longer hold and silences that have ended, such as 90d; the leader prunes older ones, and none that a sink has not had"},

		{name: "cluster-name", commands: run, traits: perTarget | perDatabase, value: (*text)(&f.sinks.cluster),
			usage: "name of this database in the events for sinks (default: its name and the server's system identifier)"},
		{name: "sink-from", commands: run, value: oneOf(&f.sinks.from, fromStart, fromEnd), initial: string(fromEnd),
			usage: "where a new sink starts: start (all retained events), end (only new events)"},
		{name: "sink-give-up", commands: run, value: duration{value: &f.sinks.giveUp}, initial: "1h0m0s",
			usage: "how long to retry a failed delivery before it becomes a dead letter"},
		{name: "webhook-url", commands: run, value: (*text)(&f.sinks.webhookURL),
			usage: "post alerts and audit entries to this URL as CloudEvents, signed with --webhook-secret-file"},
		{name: "webhook-secret-file", commands: run, value: (*text)(&f.sinks.webhookSecretFile), completion: files,
			usage: "file of the secrets shared with --webhook-url, one per line"},
		{name: "webhook-ca-file", commands: run, value: (*text)(&f.sinks.webhookCAFile), completion: files,
			usage: "CAs that may sign the certificate of --webhook-url (default: the system's)"},
		{name: "alertmanager-url", commands: run, value: (*text)(&f.sinks.alertmanagerURL),
			usage: "send alerts to the Prometheus Alertmanager at this URL, or to all members of a cluster at comma-separated URLs"},
		{name: "alertmanager-ca-file", commands: run, value: (*text)(&f.sinks.alertmanagerCAFile), completion: files,
			usage: "CAs that may sign the certificate of --alertmanager-url (default: the system's)"},
		{name: "alertmanager-runbook-url", commands: run, value: absoluteURL{(*text)(&f.sinks.alertmanagerRunbookURL)},
			usage: "annotation runbook_url of the alerts sent to --alertmanager-url"},
		{name: "nats-url", commands: run, value: (*text)(&f.sinks.natsURL),
			usage: "publish alerts and audit entries to NATS JetStream at these comma-separated URLs"},
		{name: "nats-stream", commands: run, value: (*text)(&f.sinks.natsStream),
			usage: "stream that must accept the events published to --nats-url (default: any stream with the subject)"},
		{name: "nats-subject", commands: run, value: (*text)(&f.sinks.natsSubject), initial: "provwatch",
			usage: "prefix of the subjects of --nats-url"},
		{name: "nats-creds", commands: run, value: (*text)(&f.sinks.natsCreds), completion: files,
			usage: "credentials file of the user of --nats-url"},
		{name: "nats-ca-file", commands: run, value: (*text)(&f.sinks.natsCAFile), completion: files,
			usage: "CAs that may sign the certificate of --nats-url (default: the system's)"},

		{name: "dry-run", commands: []string{"migrate"}, traits: perCall, value: (*toggle)(&f.dryRun), initial: "false",
			usage: "print the schema's state and the pending changes, and change nothing"},
		{name: "dry-run", commands: []string{"seed"}, traits: perCall, value: (*toggle)(&f.dryRun), initial: "false",
			usage: "print the plan and write nothing"},
		{name: "dry-run", commands: []string{"resolve"}, traits: perCall, value: (*toggle)(&f.dryRun), initial: "false",
			usage: "print field by field what would be written, and write nothing"},
		{name: "allow-empty", commands: []string{"verify"}, traits: perCall, value: (*toggle)(&f.allowEmpty), initial: "false",
			usage: "exit 0, not 3, when there is nothing to compare: no provider, or none of a type that the database has"},
		{name: "dry-run", commands: []string{"prune"}, traits: perCall, value: (*toggle)(&f.dryRun), initial: "false",
			usage: "print what would be pruned, and prune nothing"},
		{name: "older-than", commands: []string{"prune"}, traits: perCall, value: &f.older,
			usage: "prune what is older than this, such as 90d (default: what is older than --keep)"},
		{name: "take", commands: []string{"resolve"}, traits: perCall, completion: words,
			value: enum[reconcile.Side]{value: &f.take, list: []reconcile.Side{reconcile.Environment, reconcile.Database}, must: mustTake},
			usage: "side to keep: env, db"},
		{name: "with-keys", commands: []string{"resolve"}, traits: perCall, value: (*toggle)(&f.withKeys), initial: "false",
			usage: "with --take env: also replace the stored keys and Bedrock credentials with the environment's"},
		{name: "expires", commands: []string{"resolve"}, traits: perCall, value: &f.expires,
			usage: "with --take db: when the acceptance ends, after a duration such as 7d or 2w, or at a time with its zone such as 2026-08-01T18:00:00Z (default never)"},
		{name: "reason", commands: []string{"apply", "resolve"}, traits: perCall, value: &f.reason,
			usage: "why, for the audit log and the accepted drift: at most 500 characters, no control characters"},
		{name: "reason", commands: []string{"silence"}, traits: perCall, value: &f.reason,
			usage: "why, for the audit log and other operators: at most 500 characters, no control characters"},
		{name: "for", commands: []string{"silence"}, traits: perCall, value: &f.lasts,
			usage: "how long the silence lasts, such as 2h or 3d"},
		{name: "until", commands: []string{"silence"}, traits: perCall, value: &f.until,
			usage: "when the silence ends: a time with its zone, such as 2026-08-01T18:00:00Z"},
		{name: "since", commands: []string{"watch"}, traits: perCall, value: (*whole)(&f.since),
			usage: "first print the alerts after this seq; 0 prints all (default: only new alerts)"},
		{name: "all", commands: []string{"resolve"}, traits: perCall, value: (*toggle)(&f.all), initial: "false",
			usage: "resolve every provider that drifts"},
		{name: "all", commands: []string{"silence"}, traits: perCall, value: (*toggle)(&f.all), initial: "false",
			usage: "silence all providers, whether the environment names them or not"},
		{name: "all", commands: []string{"silences"}, traits: perCall, value: (*toggle)(&f.all), initial: "false",
			usage: "also list the silences that have ended"},
		{name: "all", commands: []string{"sinks retry"}, traits: perCall, value: (*toggle)(&f.all), initial: "false",
			usage: "retry all dead letters of the sink, or of all sinks if no sink is named"},
		{name: "stream", commands: []string{"sinks retry"}, traits: perCall, value: oneOf(&f.stream, sink.Drift, sink.Audit),
			usage: "retry only the dead letters of one stream: drift, audit (default both)"},
	}
}
