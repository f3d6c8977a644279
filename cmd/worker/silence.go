package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"provwatch/internal/environment"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/report"
	"provwatch/internal/schema"
	"provwatch/internal/silence"
	"provwatch/internal/store"
	"provwatch/internal/suggest"
)

func silenceCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "silence NAME...|--all --for DURATION|--until TIME --reason TEXT",
		Short: "Keep the alerts of providers from the sinks for a time, as during maintenance",
		Long: "Keep the alerts of providers from the sinks for a time, as during maintenance.\n\n" +
			"The alerts are recorded and published meanwhile, marked as silenced. A silence can precede a drift, and can\n" +
			"name a provider that the environment does not name. A drift that outlives its silence is alerted again.",
		Args: func(_ *cobra.Command, args []string) error {
			return f.namesOrAll(args, "name the providers to silence, or give --all for all of them")
		},

		ValidArgsFunction: f.completeProvider,
		RunE:              func(c *cobra.Command, args []string) error { return f.silence(c.Context(), args) },
	}
}

func silencesCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "silences",
		Short: "List the silences that last, with --all the ended ones too",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return f.listSilences(c.Context()) },
	}
}

func unsilenceCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "unsilence ID",
		Short: "End a silence before its time",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return remedy.Problem("name the silence by its ID, as ", remedy.Run("silences"), " lists it")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return f.unsilence(c.Context(), args[0]) },
	}
}

func (f *flags) silence(ctx context.Context, names []string) (failed error) {
	logger := f.logger()
	request, err := f.silenceRequest(names)
	if err != nil {
		return &usageError{err}
	}
	return f.silencing(ctx, logger, func(pool *pgxpool.Pool, actor string) error {
		request.Actor = actor
		added, err := silence.Add(ctx, pool, request)
		if err != nil {
			return err
		}
		f.warnOfMisspelt(ctx, names, logger)
		return f.printer().Silenced(added, deliveryOf(ctx, pool, logger))
	})
}

// silenceRequest returns what the flags and the names ask for, or why that cannot be used.
func (f *flags) silenceRequest(names []string) (request silence.Request, err error) {
	switch {
	case f.lasts != "" && f.until != "":
		err = errors.New("give one end of the silence: --for or --until, not both")
	case f.lasts == "" && f.until == "":
		err = errors.New("give the end of the silence: --for a duration such as 2h, or --until a time")
	case f.reason == "":
		err = errors.New("--reason is needed: why the alerts are silenced")
	}
	request = silence.Request{Providers: []string{silence.All}, For: f.lasts.duration(), Until: f.until.time(), Reason: string(f.reason)}
	if f.all {
		return request, err
	}
	request.Providers = nil
	for i, name := range names {
		switch {
		case !environment.IsName(name):
			err = errors.Join(err, fmt.Errorf("argument %d is not the name of a provider: lower-case letters and digits with single hyphens between", i+1))
		case !slices.Contains(request.Providers, name):
			request.Providers = append(request.Providers, name)
		}
	}
	return request, err
}

// warnOfMisspelt logs names that are similar to those of the environment, as far as it can be
// read. They are silenced too: a silence can name a provider that the environment does not name.
func (f *flags) warnOfMisspelt(ctx context.Context, names []string, logger *slog.Logger) {
	read, err := f.readEnvironment()
	if err != nil {
		return
	}
	known := provider.Names(read.Providers)
	for i, name := range names {
		if nearest := suggest.Misspelt(name, known); nearest != "" && !slices.Contains(known, name) {
			logger.WarnContext(ctx, "the environment names no provider of that name, which is silenced all the same", "argument", i+1, "nearest", nearest)
		}
	}
}

func (f *flags) listSilences(ctx context.Context) error {
	pool, _, err := f.open(ctx, f.logger())
	if err != nil {
		return err
	}
	defer pool.Close()
	var list []silence.Silence
	var more bool
	err = reading(ctx, pool, func(ctx context.Context) (err error) {
		list, more, err = silence.List(ctx, pool, f.all)
		return schema.Explain(ctx, pool, schema.Silencing, err)
	})
	if err != nil {
		return err
	}
	return f.printer().Silences(list, more, f.all)
}

func (f *flags) unsilence(ctx context.Context, arg string) error {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || id < 1 {
		return &usageError{remedy.Problem("the argument is not the ID of a silence; see ", remedy.Run("silences"))}
	}
	logger := f.logger()
	return f.silencing(ctx, logger, func(pool *pgxpool.Pool, actor string) error {
		ended, done, err := silence.End(ctx, pool, id, actor)
		if err != nil {
			return err
		}
		delivery := report.Delivered
		if done {
			delivery = deliveryOf(ctx, pool, logger)
		}
		return f.printer().Unsilenced(ended, done, delivery)
	})
}

// silencing does something about silences as the operator, whom it names as in audit
// entries.
func (f *flags) silencing(ctx context.Context, logger *slog.Logger, do func(pool *pgxpool.Pool, actor string) error) (failed error) {
	pool, done, err := f.openAsOperator(ctx, false, schema.Silencing, logger)
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, done()) }()
	session, err := store.On(pool).ReadSession(ctx)
	if err != nil {
		return err
	}
	return schema.Explain(ctx, pool, schema.Silencing, do(pool, operator().Actor(session.Role)))
}
