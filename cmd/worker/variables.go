package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"provwatch/internal/suggest"
)

// setFromEnvironment sets the flags that were not given from their PROVWATCH_*
// variables. An empty variable counts as not set.
func setFromEnvironment(set *pflag.FlagSet) error {
	var failed error
	set.VisitAll(func(flag *pflag.Flag) {
		variable := variableOf(flag.Name)
		value := os.Getenv(variable)
		if variable == "" || flag.Changed || value == "" {
			return
		}
		before := flag.Value.String()
		if err := set.Set(flag.Name, value); err != nil {
			_ = flag.Value.Set(before) // a duration is 0 now
			// A value can be a secret in the wrong place. It is not printed.
			failed = errors.Join(failed, fmt.Errorf("%s cannot be used for --%s: want %s", variable, flag.Name, wanted(flag.Value.Type(), value)))
		}
	})
	return failed
}

// unknownVariable is a variable that looks like a flag's.
type unknownVariable struct{ name, nearest string }

// unknownVariables returns the PROVWATCH_* variables of the environment that belong to no
// setting, each with the nearest variable of a setting.
func unknownVariables(environment []string) (unknown []unknownVariable) {
	var known []string
	for _, s := range new(flags).settings() {
		if variable := s.variable(); variable != "" {
			known = append(known, variable)
		}
	}
	for _, entry := range environment {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || value == "" || slices.Contains(known, name) || slices.Contains(testVariables, name) {
			continue
		}
		unknown = append(unknown, unknownVariable{name, suggest.Nearest(name, known)})
	}
	return unknown
}

// testVariables are those of the tests, which a worker that they start inherits.
var testVariables = []string{"PROVWATCH_TEST_POSTGRES", "PROVWATCH_TEST_CHROMIUM", "PROVWATCH_TEST_ALERTMANAGER", "PROVWATCH_PG_CACHE", "PROVWATCH_SCREENSHOTS"}
