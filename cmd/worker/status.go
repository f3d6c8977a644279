package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"provwatch/internal/status"
)

// How much of the history "worker status" prints.
const (
	statusProviders = status.MaxPage
	statusHistory   = 20
)

func statusCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Print the providers, the workers, the latest alerts and audit entries, and the progress of sinks",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			// An environment that cannot be used is the error, and what the database has is shown
			// all the same: among it which files the workers have not loaded.
			environment, unusable := f.environment(ctx, logger)
			keys, err := f.readKeys()
			if err != nil {
				return cmp.Or(unusable, err)
			}
			pool, _, err := f.open(ctx, logger)
			if err != nil {
				return errors.Join(unusable, err)
			}
			defer pool.Close()
			// Without an environment, the recorded one counts.
			var known status.Environment
			if len(environment.Providers) > 0 {
				known = status.EnvironmentOf(environment.Providers)
			}
			var s status.Status
			err = reading(ctx, pool, func(ctx context.Context) (err error) {
				s, err = status.Collect(ctx, pool, keys, known, status.Query{
					Providers: statusProviders, Alerts: statusHistory, Audit: statusHistory, RollbackAfter: f.rollbackAfter, Site: f.site(),
				})
				if err != nil {
					return err
				}
				s.Notices, err = status.NoticeUnserved(ctx, pool, keys)
				return err
			})
			if err != nil {
				return errors.Join(unusable, err)
			}
			return errors.Join(f.printer().Status(s), unusable)
		},
	}
}
