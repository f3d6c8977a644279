package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"provwatch/internal/report"
	"provwatch/internal/retention"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

func pruneCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "prune",
		Short: "Delete old alerts, audit entries, acceptances and silences once, as worker run does with --keep",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return f.prune(c.Context()) },
	}
}

func (f *flags) prune(ctx context.Context) (failed error) {
	logger := f.logger()
	olderThan := f.older.duration()
	if olderThan == 0 {
		olderThan = f.keep.duration()
	}
	if olderThan == 0 {
		return &usageError{errors.New("--older-than is needed: the age of what is pruned, such as 90d")}
	}
	pool, done, err := f.openAsOperator(ctx, f.dryRun, schema.Pruning|schema.PruningAudit, logger)
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, done()) }()
	session, err := store.On(pool).ReadSession(ctx)
	if err != nil {
		return err
	}
	pruned, err := retention.Prune(ctx, pool, retention.Request{OlderThan: olderThan, DryRun: f.dryRun, Actor: operator().Actor(session.Role)})
	if err != nil {
		return schema.Explain(ctx, pool, schema.Pruning|schema.PruningAudit, err)
	}
	delivery := report.Delivered
	if pruned.Rows() > 0 && !f.dryRun {
		delivery = deliveryOf(ctx, pool, logger)
	}
	return f.printer().Pruned(pruned, olderThan, f.dryRun, delivery)
}
