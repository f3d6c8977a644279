package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"provwatch/internal/drift"
	"provwatch/internal/schema"
)

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
	reported := map[string]bool{} // a flag has a row for each of its meanings
	for _, s := range f.settings() {
		if want := s.value.problem(); want != "" && s.isSet() && !reported[s.name] {
			reported[s.name] = true
			all = append(all, problem{flag: s.name, want: want})
		}
	}
	return append(append(all, f.conflicts()...), f.sinks.conflicts()...)
}

// conflicts returns which values cannot be used together.
func (f *flags) conflicts() (all []problem) {
	if f.requiresCredentials() && f.bootDrift() == alertAtBoot && f.credentials == drift.IgnoreCredentials {
		leaves, inFile := [2]string{"--on-boot-drift=alert", "use --on-boot-drift=fail, or "}, [2]string{"on_boot_drift: alert", "use on_boot_drift: fail, or "}
		if f.observe {
			leaves, inFile = [2]string{"--observe", ""}, [2]string{"observe: true", ""}
		}
		all = append(all, problem{
			flag: "compat", among: []string{"compat", "on-boot-drift", "observe", "credential-drift"},
			want: fmt.Sprintf("=%s finds credentials that differ at the start, which %s leaves to the watch, "+
				"and that ignores them: %sset %s to warn or alert", upstreamCredentials, leaves[0], leaves[1], flagOrVariable("credential-drift")),
			inFile: fmt.Sprintf("compat: %s finds credentials that differ at the start, which %s leaves to the watch, "+
				"and that ignores them: %sset credential_drift to warn or alert", upstreamCredentials, inFile[0], inFile[1]),
		})
	}
	all = append(all, f.observeConflicts()...)
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

// observeConflicts returns what contradicts --observe.
func (f *flags) observeConflicts() (all []problem) {
	if !f.observe {
		return nil
	}
	if f.migrate == schema.Auto {
		all = append(all, problem{
			flag: "observe", among: []string{"observe", "migrate"},
			want:   " does not migrate: use --migrate=check or --migrate=off, and run \"worker migrate\" as the owner",
			inFile: "observe: true does not migrate: use migrate: check or migrate: off, and run \"worker migrate\" as the owner",
		})
	}
	if f.bootDrift() != alertAtBoot {
		all = append(all, problem{
			flag: "observe", among: []string{"observe", "on-boot-drift"},
			want:   " always alerts the drifts of the start: use --on-boot-drift=alert, or leave it out",
			inFile: "observe: true always alerts the drifts of the start: use on_boot_drift: alert, or leave it out",
		})
	}
	if f.onReloadDrift == applyAtReload {
		all = append(all, problem{
			flag: "observe", among: []string{"observe", "on-reload-drift"},
			want:   " writes nothing that --on-reload-drift=apply could apply: use one of them",
			inFile: "observe: true writes nothing that on_reload_drift: apply could apply: use one of them",
		})
	}
	if f.announceSeed {
		all = append(all, problem{
			flag: "observe", among: []string{"observe", "announce-seed"},
			want:   " seeds nothing that --announce-seed could announce: use one of them",
			inFile: "observe: true seeds nothing that announce_seed: true could announce: use one of them",
		})
	}
	if f.config == "" && f.target == nil && !f.namesDatabase() {
		all = append(all, problem{flag: "observe", want: "is for a database that its owner has prepared: set DATABASE_URL or --database-url-file"})
	}
	return all
}

// conflicts returns which flags lack another one.
func (f *sinkFlags) conflicts() (all []problem) {
	for _, needed := range []struct{ flag, value, by, with string }{
		{"webhook-secret-file", f.webhookSecretFile, "webhook-url", f.webhookURL},
		{"webhook-url", f.webhookURL, "webhook-secret-file", f.webhookSecretFile},
		{"webhook-url", f.webhookURL, "webhook-ca-file", f.webhookCAFile},
		{"alertmanager-url", f.alertmanagerURL, "alertmanager-ca-file", f.alertmanagerCAFile},
		{"alertmanager-url", f.alertmanagerURL, "alertmanager-runbook-url", f.alertmanagerRunbookURL},
		{"nats-url", f.natsURL, "nats-stream", f.natsStream},
		{"nats-url", f.natsURL, "nats-creds", f.natsCreds},
		{"nats-url", f.natsURL, "nats-ca-file", f.natsCAFile},
	} {
		if needed.with != "" && needed.value == "" {
			all = append(all, problem{flag: needed.flag, want: "is needed by --" + needed.by})
		}
	}
	return all
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

// needTarget refuses what a command has of its own where --config names it for each
// target.
func (f *flags) needTarget() error {
	if f.config != "" && f.target == nil {
		return &usageError{fmt.Errorf("%s names several databases: select one with --target", flagOrVariable("config"))}
	}
	return nil
}
