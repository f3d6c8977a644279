package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"provwatch/internal/suggest"
)

// What is wrong with a command line is said without a word of it: an API key can be
// anywhere, as in "worker run CODER_AIBRIDGE_OPENAI_KEY=…", and the log keeps what is
// printed. Messages name commands and flags that exist, places, and numbers too small
// for a secret.

// usage adds the command's help to an error of the command line.
func usage(c *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	link := "; see"
	if strings.HasSuffix(err.Error(), "?") {
		link = " See"
	}
	return &usageError{fmt.Errorf("%w%s \"%s --help\"", err, link, c.CommandPath())}
}

// flagError is the error of flags that cannot be parsed.
func flagError(c *cobra.Command, err error) error {
	var (
		invalid  *pflag.InvalidValueError
		unknown  *pflag.NotExistError
		required *pflag.ValueRequiredError
	)
	switch {
	case errors.As(err, &invalid):
		flag := invalid.GetFlag()
		err = fmt.Errorf("the value of --%s cannot be used: want %s", flag.Name, wanted(flag.Value.Type(), invalid.GetValue()))
	case errors.As(err, &required):
		err = fmt.Errorf("--%s needs a value", required.GetFlag().Name)
	case errors.As(err, &unknown):
		err = unknownFlag(c, unknown.GetSpecifiedName())
	default:
		err = errors.New("the flags cannot be parsed: want --NAME=VALUE")
	}
	return usage(c, err)
}

// unknownFlag is the error of a flag that the command does not have.
func unknownFlag(c *cobra.Command, name string) error {
	var of []string // the commands that have it
	visit(c.Root(), func(sub *cobra.Command) {
		if sub.HasParent() && sub.LocalNonPersistentFlags().Lookup(name) != nil {
			of = append(of, fmt.Sprintf("%q", sub.CommandPath()))
		}
	})
	if len(of) > 0 {
		return fmt.Errorf("--%s is a flag of %s", name, strings.Join(of, ", "))
	}
	if similar := similarFlag(c, name); similar != "" {
		return fmt.Errorf("unknown flag; did you mean --%s?", similar)
	}
	return errors.New("unknown flag")
}

// noArguments is the check of a command that takes none.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%q takes no arguments%s", c.CommandPath(), variableHint(c, args))
}

// variableHint says where variables go when one is among the arguments.
func variableHint(c *cobra.Command, args []string) string {
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, "=") }) {
		return ""
	}
	return "; set a variable before the command, as in NAME=VALUE " + c.CommandPath()
}

// wrapArgs makes wrong arguments usage errors.
func wrapArgs(c *cobra.Command) {
	check := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		var err error
		switch {
		case check != nil:
			err = check(c, args)
		case len(args) > 0:
			err = unknownCommand(c, args)
		}
		return usage(c, err)
	}
}

// unknownCommand is the error of what is not a command of c.
func unknownCommand(c *cobra.Command, args []string) error {
	if similar := c.SuggestionsFor(args[0]); len(similar) > 0 {
		return fmt.Errorf("unknown command; did you mean %q?", suggest.Nearest(args[0], similar))
	}
	if !c.HasParent() {
		return errors.New("unknown command" + variableHint(c, args)) // of which there are many
	}
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	if len(names) == 0 {
		return fmt.Errorf("%q has no commands of its own", c.CommandPath())
	}
	return fmt.Errorf("unknown command; %q has %s", c.CommandPath(), strings.Join(names, ", "))
}

// similarFlag returns the flag of a command that the name is a misspelling of,
// empty where no flag has a name so near.
func similarFlag(c *cobra.Command, name string) string {
	var known []string
	c.Flags().VisitAll(func(flag *pflag.Flag) { known = append(known, flag.Name) })
	return suggest.Misspelt(name, known)
}
