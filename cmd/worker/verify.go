package main

import (
	"context"
	"errors"

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
		Long: "Compare the database with the environment once; exit 2 when they differ.\n\n" +
			"It writes nothing. It warns where a worker has a newer environment.",
		Args: noArguments,
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
			warnOfOlder(ctx, pool, environment.Providers, logger)
			seed.WarnOfNoProviders(ctx, logger, len(plan.Steps))
			if err := f.printer().Verification(plan, unmanaged, f.unmanaged); err != nil {
				return err
			}
			switch {
			case len(report.NotComparable(plan)) > 0:
				return errNotComparable
			case len(report.Drifts(plan)) > 0, report.UnmanagedDrifts(unmanaged, f.unmanaged) > 0:
				return errDrift
			case comparedNothing(plan) && !f.allowEmpty:
				return &usageError{remedy.Problem(errNothingCompared, "; or accept that with ", remedy.Repeat("--allow-empty"))}
			}
			return nil
		},
	}
}

// comparedNothing reports whether there are providers, and the database knows the type of none.
func comparedNothing(plan drift.Plan) bool {
	return len(plan.Steps) > 0 && plan.Count(drift.ActionUnsupported) == len(plan.Steps)
}

// errNothingCompared is the error of a verification that has printed only providers of types
// that the database does not know.
var errNothingCompared = errors.New("nothing was compared: the database's enum ai_provider_type lacks the type of each provider; " +
	"upgrade the gateway, whose migrations add the types that it can serve")
