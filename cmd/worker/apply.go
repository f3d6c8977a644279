package main

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/reconcile"
	"provwatch/internal/report"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
)

func planCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "plan [NAME...]",
		Short: "Print what \"worker apply\" would write, field by field, and which side has moved",
		Long: "Print what \"worker apply\" would write, field by field, and which side has moved since both last agreed.\n\n" +
			"It writes nothing. It warns where a worker has a newer environment. Exit code 0 means that nothing would be written or refused, 2 that something would.",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: f.completeProvider,
		RunE:              func(c *cobra.Command, args []string) error { return f.applyChanges(c.Context(), args, true) },
	}
}

func applyCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "apply [NAME...]",
		Short: "Write what the environment has changed to the database, where the database has not changed itself",
		Long: "Write what the environment has changed since both sides last agreed to the database, where the database has not changed itself.\n\n" +
			"Without names it applies every provider. It writes type, base URL and Bedrock region, and inserts a provider that the environment names " +
			"for the first time; never credentials or models. It prints the providers that it refuses, which are for \"worker resolve\", and ends with exit code 2. " +
			"It warns where a worker has a newer environment, whose values it would write over.",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: f.completeProvider,
		RunE:              func(c *cobra.Command, args []string) error { return f.applyChanges(c.Context(), args, false) },
	}
}

// applyChanges applies the environment of the providers named, or of all. With dryRun it only
// prints what would be written.
func (f *flags) applyChanges(ctx context.Context, names []string, dryRun bool) (failed error) {
	logger := f.logger()
	environment, err := f.environment(ctx, logger)
	if err != nil {
		return err
	}
	desired, _, err := f.named(environment, names)
	if err != nil {
		return err
	}
	pool, done, err := f.openAsOperator(ctx, dryRun, schema.ApplyingByHand, logger)
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, done()) }()
	supported, _, err := seed.Supported(ctx, pool, environment.Providers)
	if err != nil {
		return err
	}
	warnOfOlder(ctx, pool, environment.Providers, logger)
	who := operator()
	outcomes, err := reconcile.Apply(ctx, pool, dbcrypt.NewRing(environment.Keys), desired, reconcile.ApplyRequest{
		Credentials: f.resolvedCredentials(), DryRun: dryRun, Operator: &who, Reason: string(f.reason),
		Member: rollout.NewMember(uuid.New(), rollout.Window, rollout.Applies), Environment: supported,
	})
	if err != nil {
		return err
	}
	delivery := report.Delivered
	if !dryRun && slices.ContainsFunc(outcomes, reconcile.Applied.Written) {
		delivery = deliveryOf(ctx, pool, logger)
	}
	if err := f.printer().Applied(outcomes, dryRun, string(f.reason), delivery); err != nil {
		return err
	}
	return appliedError(outcomes, dryRun)
}

// appliedError is how a command ends by what it printed: a plan also reports whether anything
// would be written.
func appliedError(outcomes []reconcile.Applied, dryRun bool) error {
	has := func(is func(reconcile.Applied) bool) bool { return slices.ContainsFunc(outcomes, is) }
	switch {
	case has(func(a reconcile.Applied) bool { return a.Action == drift.ApplyNotComparable }):
		return errNotComparable
	case has(func(a reconcile.Applied) bool { return a.Action == drift.ApplyRefused }),
		dryRun && has(func(a reconcile.Applied) bool { return a.Written() || a.AcceptanceRenewed }):
		return errDrift
	default:
		return nil
	}
}
