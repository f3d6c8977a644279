package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"provwatch/internal/atrest"
)

// namesFile tells whether a flag names a file, which shells complete by themselves.
func namesFile(flag string) bool {
	return strings.HasSuffix(flag, "-file") || slices.Contains([]string{"config", "keyset", "nats-creds"}, flag)
}

// complete tells shells what can follow: values of flags, and names that a
// command takes. The scripts are printed by cobra's command "completion".
func (f *flags) complete(c *cobra.Command) {
	values := map[string]cobra.CompletionFunc{
		"take":     cobra.FixedCompletions([]string{"env", "db"}, cobra.ShellCompDirectiveNoFileComp),
		"data-dir": cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
	}
	for _, choice := range f.choices() {
		values[choice.flag] = cobra.FixedCompletions(choice.of, cobra.ShellCompDirectiveNoFileComp)
	}
	register := func(flag *pflag.Flag) {
		complete := values[flag.Name]
		if complete == nil {
			complete = cobra.NoFileCompletions
		}
		if flag.Value.Type() != "bool" && !namesFile(flag.Name) {
			// It fails for a flag that does not exist or is registered twice.
			if err := c.RegisterFlagCompletionFunc(flag.Name, complete); err != nil {
				panic(err)
			}
		}
	}
	c.LocalNonPersistentFlags().VisitAll(register)
	c.PersistentFlags().VisitAll(register)
	if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, sub := range c.Commands() {
		f.complete(sub)
	}
}

// completeProvider completes the name of a provider of the environment. It
// connects to nothing.
func (f *flags) completeProvider(c *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 || setFromEnvironment(c.Flags()) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	environment, err := f.readEnvironment()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, p := range environment.Providers {
		names = append(names, p.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeKey completes the id of a key of --keyset.
func (f *flags) completeKey(c *cobra.Command, args []string, _ string) (ids []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 || setFromEnvironment(c.Flags()) != nil || f.keyset == "" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	keys, err := atrest.List(f.keyset)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
