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
			"With --take db a name can be that of an enabled row that the environment does not name.\n\n" +
			"Several providers are resolved in one transaction: all of them or, with an error, none. " +
			"It warns where a worker has a newer environment.",
		Args: func(_ *cobra.Command, args []string) error {
			return f.namesOrAll(args, "name the providers to resolve, or give --all for every provider that drifts")
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
	desired, unmanaged, err := f.named(environment, names)
	if err != nil {
		return err
	}
	pool, done, err := f.openAsOperator(ctx, f.dryRun, schema.Resolving, logger)
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, done()) }()
	request := reconcile.Request{
		Side: f.take, WithKeys: f.withKeys, Credentials: f.resolvedCredentials(), Drifting: f.all, DryRun: f.dryRun,
		Operator: operator(), Reason: string(f.reason), Expires: f.expires.of(), Unmanaged: unmanaged, Named: environment.Names(),
	}
	warnOfOlder(ctx, pool, environment.Providers, logger)
	outcomes, err := reconcile.Resolve(ctx, pool, dbcrypt.NewRing(environment.Keys), desired, request)
	var unknown *reconcile.UnknownError
	var managed *reconcile.ManagedError
	switch {
	case errors.As(err, &unknown):
		return unknownNames(names, unknown, request.Named)
	case errors.As(err, &managed):
		return managedNames(names, managed)
	case err != nil:
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
// without names. With --take db the other names can be those of unmanaged rows, which are
// returned. Otherwise the error has each argument that names no provider, without its text.
func (f *flags) named(environment environment.Environment, names []string) (desired []provider.Desired, unmanaged []string, err error) {
	if len(environment.Providers) == 0 && (len(names) == 0 || f.take == reconcile.Database) {
		return nil, nil, &usageError{errNoProviders} // each row would be unmanaged
	}
	if len(names) == 0 {
		return environment.Providers, nil, nil
	}
	known := provider.Names(environment.Providers)
	var failed error
	for i, name := range names {
		at := slices.Index(known, name)
		switch {
		case slices.Contains(names[:i], name) && (at >= 0 || f.take == reconcile.Database):
		case at >= 0:
			desired = append(desired, environment.Providers[at])
		case f.take == reconcile.Database:
			unmanaged = append(unmanaged, name)
		default:
			failed = errors.Join(failed, f.unnamed(which(names, i), name, known))
		}
	}
	if failed != nil {
		return nil, nil, &usageError{failed}
	}
	return desired, unmanaged, nil
}

// namesOrAll returns an error unless either names or --all are given. Where there is neither, its
// text is what is needed.
func (f *flags) namesOrAll(names []string, needed string) error {
	switch {
	case f.all && len(names) > 0:
		return errors.New("give names or --all, not both")
	case !f.all && len(names) == 0:
		return errors.New(needed)
	default:
		return nil
	}
}

// which returns the words for one of several arguments.
func which(names []string, i int) string {
	if len(names) == 1 {
		return ""
	}
	return fmt.Sprintf("argument %d: ", i+1)
}

// unnamed is the error of a name that no known provider has. It can be that of an unmanaged row,
// to which the environment has nothing to write.
func (f *flags) unnamed(which, name string, known []string) error {
	text := []any{which + "the environment names no provider of that name; " + didYouMean(name, known) + "run ", remedy.Run("verify"), " with the same environment to list its providers"}
	if f.take == reconcile.Environment {
		text = append(text, "; accept an unmanaged row with ", remedy.Run("resolve", "NAME", "--take", "db"), ", name it in the environment, or disable or delete it")
	}
	return remedy.Problem(text...)
}

// unknownNames is the error of arguments that name neither a provider nor an unmanaged row.
func unknownNames(names []string, unknown *reconcile.UnknownError, known []string) error {
	var failed error
	for _, name := range unknown.Names {
		failed = errors.Join(failed, remedy.Problem(which(names, slices.Index(names, name))+unknown.Error()+"; "+didYouMean(name, append(known, unknown.Rows...))+"run ",
			remedy.Run("verify"), " with the same environment to list its providers and the unmanaged ones"))
	}
	return &usageError{failed}
}

// managedNames is the error of arguments that the environment of the workers names, and the one here
// does not.
func managedNames(names []string, managed *reconcile.ManagedError) error {
	var failed error
	for _, name := range managed.Names {
		failed = errors.Join(failed, remedy.Problem(which(names, slices.Index(names, name))+managed.Error()+"; give the command the environment of the workers"))
	}
	return &usageError{failed}
}

// didYouMean suggests the nearest known name, and ends before another suggestion.
func didYouMean(name string, known []string) string {
	if nearest := suggest.Misspelt(name, known); nearest != "" {
		return fmt.Sprintf("did you mean %s? Or ", nearest)
	}
	return ""
}
