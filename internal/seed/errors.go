package seed

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/remedy"
)

// ErrNoProviders says that the environment names no provider.
var ErrNoProviders = errors.New("it names no provider")

// DriftError reports every provider whose row differs from what the
// environment asks for.
type DriftError struct {
	// Steps are those of [drift.ActionDrifted] and [drift.ActionNotComparable].
	Steps []drift.Step

	// refused are why an apply does not write what has changed, by name; nil where none was
	// asked for.
	refused map[string]error
}

// DriftOf returns a [*DriftError] when the plan holds a drift or a row that cannot
// be compared, else nil.
func DriftOf(plan drift.Plan) error {
	var e DriftError
	for _, s := range plan.Steps {
		if s.Action == drift.ActionDrifted || s.Action == drift.ActionNotComparable {
			e.Steps = append(e.Steps, s)
		}
	}
	if len(e.Steps) == 0 {
		return nil
	}
	return &e
}

// Comparable reports whether all steps are drifts, and none is a row that cannot be
// compared.
func (e *DriftError) Comparable() bool {
	return !slices.ContainsFunc(e.Steps, func(s drift.Step) bool { return s.Action == drift.ActionNotComparable })
}

// Error names each provider, what differs, and the ways out.
func (e *DriftError) Error() string {
	lines := make([]string, len(e.Steps))
	for i, s := range e.Steps {
		lines[i] = problem(s)
		switch why := e.refused[s.Desired.Name]; {
		case why != nil:
			lines[i] += "; it was not applied: " + why.Error()
		case e.applies(s):
			lines[i] += ", or write what the environment has changed with " + applyBy(s).Quoted()
		}
	}
	lines = append(lines, "or start all the same, seeding what is missing and alerting what differs: "+tolerate.Quoted())
	return strings.Join(lines, "\n")
}

// applies reports whether an apply would write to the step's row, and was not asked to.
func (e *DriftError) applies(s drift.Step) bool {
	return e.refused == nil && s.Action == drift.ActionDrifted && s.Apply().Verdict == drift.ApplyUpdate
}

// applyBy returns the remedy that applies the step's provider.
func applyBy(s drift.Step) remedy.Remedy { return remedy.Run("apply", s.Desired.Name) }

// tolerate is how a worker starts in spite of drifts.
var tolerate = remedy.Run("run", "--on-boot-drift=alert")

// Remedies returns the commands in the text of the error.
func (e *DriftError) Remedies() []remedy.Remedy {
	list := []remedy.Remedy{tolerate}
	for _, s := range e.Steps {
		list = append(list, resolveBy(s, "env", "--with-keys"), resolveBy(s, "env"), resolveBy(s, "db"))
		if e.applies(s) {
			list = append(list, applyBy(s))
		}
		list = append(list, remedy.Of(e.refused[s.Desired.Name])...)
	}
	return list
}

func problem(s drift.Step) string {
	name := s.Desired.Name
	switch unread := s.Observation.UnreadableCredentials; {
	case s.MustAgree && unread != nil:
		besides := ""
		if s.Observation.HashDiffers() {
			besides = "; it differs in " + drift.List(s.Observation.Kind, s.Observation.Fields)
		}
		return fmt.Sprintf("AI provider %q already exists in the database, and its credentials cannot be compared with the environment's: %v%s; "+
			"otherwise replace the stored credentials by those of the environment (%s) with "+
			"%s, or drop --compat=upstream-credentials",
			name, unread, besides, s.Desired.CredentialVariables(), resolveBy(s, "env", "--with-keys").Quoted())
	case s.CredentialsProblem() != nil:
		return fmt.Sprintf("AI provider %q already exists in the database and differs from the current environment configuration: %s; "+
			"with --compat=upstream-credentials credentials must agree as well: either set those of the database in the environment (%s), "+
			"or write the environment's to the database with %s, or drop --compat=upstream-credentials",
			name, drift.List(s.Observation.Kind, s.Observation.Fields), s.Desired.CredentialVariables(), resolveBy(s, "env", "--with-keys").Quoted())
	case s.Action == drift.ActionNotComparable:
		return fmt.Sprintf("AI provider %q already exists in the database and cannot be compared: %v; %s",
			name, s.Observation.Unreadable, repair(s))
	}
	return fmt.Sprintf("AI provider %q already exists in the database and differs from the current environment configuration: %s (%s); "+
		"either make both agree (change the variables %s, or %s to write them to the database), "+
		"or keep the database's values with %s",
		name, drift.List(s.Observation.Kind, s.Observation.Fields), s.Moved().Label(), s.Desired.Variables, resolveBy(s, "env").Quoted(), resolveBy(s, "db").Quoted())
}

// repair says how a row becomes comparable.
func repair(s drift.Step) string {
	return dbcrypt.Repair(s.Observation.Unreadable, s.Desired.Variables)
}

// resolveBy returns the remedy that resolves the step's drift.
func resolveBy(s drift.Step, take string, more ...string) remedy.Remedy {
	return remedy.Run("resolve", append([]string{s.Desired.Name, "--take", take}, more...)...)
}
