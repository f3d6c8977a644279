package seed

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// ErrNoProviders says that the environment names no provider.
var ErrNoProviders = errors.New("it names no provider")

// DriftError reports every provider whose row is not the one that the
// environment asks for.
type DriftError struct {
	Steps []Step // of action Drifted or NotComparable

	tolerate string // see [Remedies]
}

// Comparable reports whether all steps are drifts, and none is a row that cannot be
// compared.
func (e *DriftError) Comparable() bool {
	return !slices.ContainsFunc(e.Steps, func(s Step) bool { return s.Action == NotComparable })
}

// Error names each provider, what differs, and the ways out.
func (e *DriftError) Error() string {
	lines := make([]string, len(e.Steps))
	for i, s := range e.Steps {
		lines[i] = s.problem()
	}
	if e.tolerate != "" {
		lines = append(lines, "or start all the same, seeding what is missing and alerting what differs: "+e.tolerate)
	}
	return strings.Join(lines, "\n")
}

func (s Step) problem() string {
	name := s.Desired.Name
	switch unread := s.Observation.UnreadableCredentials; {
	case s.mustAgree && unread != nil:
		besides := ""
		if s.Observation.HashDiffers() {
			besides = "; it differs in " + drift.List(s.Observation.Fields)
		}
		return fmt.Sprintf("AI provider %q already exists in the database, and its credentials cannot be compared with the environment's: %v%s; "+
			"otherwise replace the stored credentials by those of the environment (%s) with "+
			"\"%s\", or drop --compat=upstream-credentials",
			name, unread, besides, s.CredentialsOrigin(), s.resolveBy("env --with-keys"))
	case s.CredentialsProblem() != nil:
		return fmt.Sprintf("AI provider %q already exists in the database and differs from the current environment configuration: %s; "+
			"with --compat=upstream-credentials credentials must agree as well: either set those of the database in the environment (%s), "+
			"or write the environment's to the database with \"%s\", or drop --compat=upstream-credentials",
			name, drift.List(s.Observation.Fields), s.CredentialsOrigin(), s.resolveBy("env --with-keys"))
	case s.Action == NotComparable:
		return fmt.Sprintf("AI provider %q already exists in the database and cannot be compared: %v; %s",
			name, s.Observation.Unreadable, s.repair())
	}
	return fmt.Sprintf("AI provider %q already exists in the database and differs from the current environment configuration: %s; "+
		"either make both agree (change the variables %s, or \"%s\" to write them to the database), "+
		"or keep the database's values with \"%s\"",
		name, drift.List(s.Observation.Fields), s.Desired.Variables, s.resolveBy("env"), s.resolveBy("db"))
}

// repair says how a row becomes comparable.
func (s Step) repair() string { return Repair(s.Desired, s.Observation.Unreadable) }

// Repair says how a row of the provider becomes comparable whose settings cannot be
// read for the reason.
func Repair(d provider.Desired, reason error) string {
	otherwise := "or remove its variables (" + d.Variables + ")"
	switch {
	case errors.Is(reason, dbcrypt.ErrFormerKeyset):
		return otherwise // the reason has the remedy
	case dbcrypt.SaysUnknownKey(reason.Error()):
		return "add the key to the variable, " + otherwise
	default:
		return "repair its settings, " + otherwise
	}
}

// resolveBy returns the command that resolves the step's drift.
func (s Step) resolveBy(take string) string {
	command := s.remedies.Command
	if command == "" {
		command = "worker"
	}
	return command + " resolve " + s.Desired.Name + " --take " + take + s.remedies.Flags
}

// CredentialsOrigin returns the variable to look at for credentials, for messages.
func (s Step) CredentialsOrigin() string {
	if s.Desired.CredentialsOrigin != "" {
		return s.Desired.CredentialsOrigin
	}
	return "none is set in the variables " + s.Desired.Variables
}
