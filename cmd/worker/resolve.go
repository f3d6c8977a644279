package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/remedy"
	"provwatch/internal/report"
	"provwatch/internal/schema"
	"provwatch/internal/suggest"
)

func resolveCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "resolve NAME...|--all --take env|db",
		Short: "End the drift of providers: write the environment's fields to the database, or accept the database's",
		Long: "End the drift of providers: write the environment's fields to the database, or accept the database's.\n\n" +
			"Several providers are resolved in one transaction: all of them or, with an error, none.",
		Args: func(_ *cobra.Command, args []string) error {
			if f.all == (len(args) > 0) {
				return errors.New("name the providers to resolve, or give --all for every provider that drifts")
			}
			return nil
		},

		ValidArgsFunction: f.completeProvider,
		RunE:              func(c *cobra.Command, args []string) error { return f.resolve(c, args) },
	}
}

func (f *flags) resolve(c *cobra.Command, names []string) (failed error) {
	ctx, logger := c.Context(), f.logger()
	if f.take == "" {
		return &usageError{errors.New("--take " + mustTake)}
	}
	if f.withKeys && f.take == reconcile.Database {
		return &usageError{errors.New("--with-keys goes with --take env")}
	}
	if f.expires != "" && f.take == reconcile.Environment {
		return &usageError{errors.New("--expires goes with --take db")}
	}
	environment, err := f.environment(ctx, logger)
	if err != nil {
		return err
	}
	desired, err := f.named(environment, names)
	if err != nil {
		return err
	}
	migrate := f.migrateMode()
	if f.dryRun && migrate == schema.Auto {
		migrate = schema.Check
	}
	pool, done, err := f.openAsOperator(ctx, migrate, schema.Resolving, logger)
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, done()) }()
	request := reconcile.Request{
		Side: f.take, WithKeys: f.withKeys, Credentials: f.resolvedCredentials(), Drifting: f.all, DryRun: f.dryRun,
		Operator: operator(), Reason: string(f.reason), Expires: f.expires.of(),
	}
	outcomes, err := reconcile.Resolve(ctx, pool, dbcrypt.NewRing(environment.Keys), desired, request)
	if err != nil {
		return err
	}
	delivery := report.Delivered
	if !f.dryRun && slices.ContainsFunc(outcomes, reconcile.Outcome.Written) {
		delivery = deliveryOf(ctx, pool, logger)
	}
	if err := f.printer().Resolution(request, outcomes, delivery); err != nil {
		return err
	}
	if slices.ContainsFunc(outcomes, func(o reconcile.Outcome) bool { return o.NotComparable != "" }) {
		return errNotComparable
	}
	return nil
}

// resolvedCredentials is how a resolution compares credentials. A difference that is logged
// alone is no drift, and leaves nothing to resolve.
func (f *flags) resolvedCredentials() drift.CredentialMode {
	switch {
	case f.requiresCredentials():
		return drift.RequireCredentials
	case f.credentials == drift.WarnCredentials:
		return drift.IgnoreCredentials
	default:
		return f.credentials
	}
}

// named returns the providers of the environment that have the names, each once, or all
// without names. The error has each argument that names none, without its text.
func (f *flags) named(environment environment.Environment, names []string) ([]provider.Desired, error) {
	if len(names) == 0 {
		if len(environment.Providers) == 0 {
			return nil, &usageError{errNoProviders}
		}
		return environment.Providers, nil
	}
	known := provider.Names(environment.Providers)
	var desired []provider.Desired
	var failed error
	for i, name := range names {
		at := slices.Index(known, name)
		switch {
		case at < 0:
			which := ""
			if len(names) > 1 {
				which = fmt.Sprintf("argument %d: ", i+1)
			}
			failed = errors.Join(failed, unnamed(which, name, known))
		case !slices.Contains(names[:i], name):
			desired = append(desired, environment.Providers[at])
		}
	}
	if failed != nil {
		return nil, &usageError{failed}
	}
	return desired, nil
}

// unnamed is the error of a name that no known provider has.
func unnamed(which, name string, known []string) error {
	meant := ""
	if nearest := suggest.Misspelt(name, known); nearest != "" {
		meant = fmt.Sprintf("did you mean %s? Or ", nearest)
	}
	return remedy.Problem(which+"the environment names no provider of that name; "+meant+"run ", remedy.Run("verify"), " with the same environment to list its providers")
}
