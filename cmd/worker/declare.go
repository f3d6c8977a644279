package main

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// declare adds the flag of a setting to a flag set of the command.
func (s setting) declare(f *flags, c *cobra.Command, set *pflag.FlagSet) {
	flag := set.VarPF(s.value, s.name, s.letter, s.usage)
	flag.DefValue = cmp.Or(s.initial, s.shown)
	if s.value.Type() == "bool" {
		flag.NoOptDefVal = "true"
		return
	}
	if complete := f.completes(s); complete != nil {
		// It fails for a flag that does not exist or is registered twice.
		if err := c.RegisterFlagCompletionFunc(s.name, complete); err != nil {
			panic(err)
		}
	}
}

// declare adds the flags of the table to the commands that have them.
func (f *flags) declare(root *cobra.Command) {
	for _, s := range f.settings() {
		if s.commands == nil {
			s.declare(f, root, root.PersistentFlags())
			continue
		}
		visit(root, func(c *cobra.Command) {
			name := strings.TrimPrefix(c.CommandPath(), "worker ")
			if c == root {
				name = "run"
			}
			if slices.Contains(s.commands, name) {
				s.declare(f, c, c.Flags())
			}
		})
	}
}
