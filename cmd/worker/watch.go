package main

import (
	"errors"

	"github.com/spf13/cobra"

	"provwatch/internal/history"
	"provwatch/internal/schema"
)

func watchCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "watch",
		Short: "Print drift alerts as they are published, until stopped",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			since := f.since
			switch {
			case !c.Flags().Changed("since"):
				since = history.New
			case since < 0:
				return &usageError{errors.New("--since is the seq of an alert, or 0 for all")}
			}
			ctx, logger := c.Context(), f.logger()
			pool, config, err := f.open(ctx, logger)
			if err != nil {
				return unlessStopped(ctx, err)
			}
			defer pool.Close()
			defer warnOfWaits(ctx, pool, logger)()
			if err := schema.Listenable(ctx, pool); err != nil {
				return unlessStopped(ctx, err)
			}
			err = history.Follow(ctx, pool, config, since, logger, f.printer())
			return unlessStopped(ctx, schema.Explain(ctx, pool, schema.Watching, err))
		},
	}
}
