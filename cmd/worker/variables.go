package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"provwatch/internal/suggest"
)

const variablePrefix = "PROVWATCH_"

// perCall are the flags that have no variable: they say what one call is to do,
// and must not be left behind in an environment.
var perCall = []string{"target", "dry-run", "take", "with-keys", "since", "all", "stream", "help", "version"}

// variableOf returns the variable of a flag, empty for one that has none.
func variableOf(flag string) string {
	if slices.Contains(perCall, flag) {
		return ""
	}
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

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
			// A value can be a secret in the wrong place, hence is not shown.
			failed = errors.Join(failed, fmt.Errorf("%s cannot be used for --%s: want %s", variable, flag.Name, wanted(flag, value)))
		}
	})
	return failed
}

// unknownVariable is a variable that looks like a flag's.
type unknownVariable struct{ name, nearest string }

// unknownVariables returns the PROVWATCH_* variables that are set and belong to no
// flag of any command, each with the one that it is most likely a misspelling of.
func unknownVariables(root *cobra.Command, environment []string) (unknown []unknownVariable) {
	var known []string
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		note := func(flag *pflag.Flag) {
			if variable := variableOf(flag.Name); variable != "" {
				known = append(known, variable)
			}
		}
		c.Flags().VisitAll(note)
		c.PersistentFlags().VisitAll(note)
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
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
