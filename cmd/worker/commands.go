package main

import "github.com/spf13/cobra"

// visit calls do for a command and for all below it.
func visit(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		visit(sub, do)
	}
}
