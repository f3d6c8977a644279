package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"provwatch/internal/secret"
	"provwatch/internal/status"
	"provwatch/internal/web"
)

// How much of the history "worker status" prints.
const (
	statusProviders = status.MaxPage
	statusHistory   = 20
)

// httpToken reads --http-token-file.
func (f *flags) httpToken() (secret.Text, error) {
	if f.httpTokenFile == "" {
		return secret.Text{}, nil
	}
	token, err := web.ReadToken(f.httpTokenFile)
	if err != nil {
		return secret.Text{}, &usageError{fmt.Errorf("--http-token-file (or %s): %w", variableOf("http-token-file"), err)}
	}
	return token, nil
}

func statusCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Print how the providers are, who watches them, the latest alerts and audit entries, and how far sinks are",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			environment, keys, pool, _, err := f.openWithEnvironment(ctx, logger)
			if err != nil {
				return err
			}
			defer pool.Close()
			// Without an environment, what was recorded tells what it names.
			var known status.Environment
			if len(environment.Providers) > 0 {
				known = status.EnvironmentOf(environment.Providers)
			}
			var s status.Status
			err = reading(ctx, pool, func(ctx context.Context) (err error) {
				s, err = status.Collect(ctx, pool, keys, known, status.Query{Providers: statusProviders, Alerts: statusHistory, Audit: statusHistory})
				if err != nil {
					return err
				}
				s.Notices, err = status.NoticeUnserved(ctx, pool, keys)
				return err
			})
			if err != nil {
				return err
			}
			return f.printer().Status(s)
		},
	}
}

// warnOfServed warns of providers that the gateway does not serve as their rows
// suggest. The seed is done: that this cannot be known is no failure of it.
func warnOfServed(ctx context.Context, pool *pgxpool.Pool, keys status.Keys, logger *slog.Logger) {
	notices, err := status.NoticeUnserved(ctx, pool, keys)
	if err != nil {
		logger.WarnContext(ctx, "cannot tell what the gateway serves", "error", err)
	}
	status.LogNotices(ctx, logger, notices)
}
