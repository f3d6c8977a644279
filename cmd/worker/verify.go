package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/remedy"
	"provwatch/internal/report"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
	"provwatch/internal/verify"
)

func verifyCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Compare the database with the environment once; exit 2 when they differ",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			environment, err := f.environment(ctx, logger)
			if err != nil {
				return err
			}
			if len(environment.Providers) == 0 && !f.allowEmpty {
				return &usageError{remedy.Problem(errNoProviders, "; or accept that with ", remedy.Repeat("--allow-empty"))}
			}
			pool, _, err := f.open(ctx, logger)
			if err != nil {
				return err
			}
			defer pool.Close()
			keys := dbcrypt.NewRing(environment.Keys)
			use, mode := f.comparing(schema.Verifying), f.credentials
			if f.requiresCredentials() {
				mode = drift.RequireCredentials // a start would fail for them
			}
			if mode.Compares() {
				use |= schema.Credentials
			}
			var plan drift.Plan
			var unmanaged []drift.UnmanagedRow
			err = reading(ctx, pool, func(ctx context.Context) (err error) {
				plan, err = verify.Once(ctx, pool, environment.Providers, keys, mode, logger)
				if err == nil && f.unmanaged.Looks() {
					unmanaged, err = verify.Unmanaged(ctx, pool, environment.Names(), keys)
				}
				return schema.Explain(ctx, pool, use, err)
			})
			if err != nil {
				return err
			}
			seed.WarnOfNoProviders(ctx, logger, len(plan.Steps))
			if err := f.printer().Verification(plan, unmanaged); err != nil {
				return err
			}
			switch {
			case len(report.NotComparable(plan)) > 0:
				return errNotComparable
			case len(report.Drifts(plan)) > 0, f.alertsUnmanaged(unmanaged):
				return errDrift
			}
			return nil
		},
	}
}

// alertsUnmanaged reports whether one of the rows was alerted and is not accepted, where such
// rows are alerted.
func (f *flags) alertsUnmanaged(rows []drift.UnmanagedRow) bool {
	return f.unmanaged == drift.AlertUnmanaged && slices.ContainsFunc(rows, drift.UnmanagedRow.IsDrift)
}
