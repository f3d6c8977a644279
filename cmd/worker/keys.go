package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/dustin/go-humanize/english"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"provwatch/internal/atrest"
	"provwatch/internal/embedded"
	"provwatch/internal/postgres"
	"provwatch/internal/reencrypt"
	"provwatch/internal/report"
	"provwatch/internal/store"
)

func keysCommand(f *flags) *cobra.Command {
	command := &cobra.Command{Use: "keys", Short: "Manage the keys that stored secrets are encrypted with (docs/secrets-at-rest.md)"}
	command.AddCommand(
		&cobra.Command{
			Use:   "add",
			Short: "Add a key to --keyset, not yet the primary one; create the file if there is none",
			Args:  noArguments,
			RunE: func(*cobra.Command, []string) error {
				if err := f.needKeyset(); err != nil {
					return err
				}
				id, err := atrest.Add(f.keyset)
				if err != nil {
					return err
				}
				return f.printKey(id, "added")
			},
		},
		&cobra.Command{
			Use:   "list",
			Short: "List the keys of --keyset and, where there is a database, how many rows use each",
			Args:  noArguments,
			RunE: func(c *cobra.Command, _ []string) error {
				return f.listKeys(c.Context(), f.logger())
			},
		},
		&cobra.Command{
			Use:               "promote ID",
			Short:             "Make a key of --keyset the primary one, which new secrets are encrypted with",
			Args:              oneArgument,
			ValidArgsFunction: f.completeKey,
			RunE: func(_ *cobra.Command, args []string) error {
				if err := f.needKeyset(); err != nil {
					return err
				}
				if err := atrest.Promote(f.keyset, args[0]); err != nil {
					return err
				}
				return f.printKey(args[0], "promoted")
			},
		},
		f.reencryptCommand("rotate", "Encrypt with the primary key all stored secrets that are not, while everything runs", reencrypt.Rotate),
		f.reencryptCommand("decrypt", "Store all secrets in plain text again, for uninstalling", reencrypt.Decrypt),
		&cobra.Command{
			Use:               "remove ID",
			Short:             "Remove a key from --keyset, unless rows use it",
			Args:              oneArgument,
			ValidArgsFunction: f.completeKey,
			RunE: func(c *cobra.Command, args []string) error {
				return f.removeKey(c.Context(), f.logger(), args[0])
			},
		},
	)
	return command
}

// needKeyset makes sure that there is a --keyset.
func (f *flags) needKeyset() error {
	if f.keyset == "" {
		return &usageError{fmt.Errorf("--keyset (or %s) must name the keyset file", variableOf("keyset"))}
	}
	return nil
}

// keys reads --keyset. Commands call it before they open the database.
func (f *flags) keys() (*atrest.Keyset, error) { return atrest.Load(f.keyset) }

// printKey prints what was done to a key of --keyset.
func (f *flags) printKey(id, done string) error {
	list, err := atrest.List(f.keyset)
	if err != nil {
		return err
	}
	return f.printer().KeyChanged(id, done, list)
}

func (f *flags) listKeys(ctx context.Context, logger *slog.Logger) error {
	if err := f.needKeyset(); err != nil {
		return err
	}
	list, err := atrest.List(f.keyset)
	if err != nil {
		return err
	}
	uses, err := f.keyUses(ctx, logger)
	if errors.Is(err, embedded.ErrNotRunning) {
		return f.printer().Keys(list, nil)
	}
	if err != nil {
		return err
	}
	return f.printer().Keys(list, uses)
}

// keyUses opens the database and counts what each key is used for.
func (f *flags) keyUses(ctx context.Context, logger *slog.Logger) ([]report.KeyUse, error) {
	pool, _, err := f.open(ctx, logger)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	counted, err := store.On(pool).CountKeyUse(ctx)
	if err != nil {
		return nil, fmt.Errorf("count what each key is used for: %w", postgres.WithoutValues(err))
	}
	uses := []report.KeyUse{}
	for _, c := range counted {
		uses = append(uses, report.KeyUse{KeyID: c.KeyID, Settings: c.Settings, APIKeys: c.ApiKeys})
	}
	return uses, nil
}

func (f *flags) removeKey(ctx context.Context, logger *slog.Logger, id string) error {
	if err := f.needKeyset(); err != nil {
		return err
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	uses, err := f.keyUses(ctx, logger)
	if err != nil {
		return err
	}
	for _, use := range uses {
		if use.KeyID == id && id == keys.Primary() {
			return fmt.Errorf("key %s is the primary one, and %s are encrypted with it; "+
				"make another one primary with \"worker keys promote\", and run \"worker keys rotate\" first", id, secretsOf(use))
		}
		if use.KeyID == id {
			return fmt.Errorf("key %s is in use: %s are encrypted with it; run \"worker keys rotate\" first", id, secretsOf(use))
		}
	}
	if err := atrest.Remove(f.keyset, id); err != nil {
		return err
	}
	return f.printKey(id, "removed")
}

// secretsOf says what a key is used for.
func secretsOf(use report.KeyUse) string {
	return fmt.Sprintf("the settings of %s and %s",
		english.Plural(int(use.Settings), "provider", ""), english.Plural(int(use.APIKeys), "API key", ""))
}

// reencryptCommand is "keys rotate" or "keys decrypt".
func (f *flags) reencryptCommand(name, short string,
	do func(context.Context, *pgxpool.Pool, *atrest.Keyset, string, *slog.Logger) (reencrypt.Summary, error),
) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) (failed error) {
			ctx, logger := c.Context(), f.logger()
			if err := f.needKeyset(); err != nil {
				return err
			}
			keys, pool, done, err := f.openAsOperator(ctx, logger)
			if err != nil {
				return err
			}
			defer func() { failed = errors.Join(failed, done()) }()
			summary, err := do(ctx, pool, keys, operator(), logger)
			staged := summary.Written() && handOver(ctx, pool, logger)
			if err != nil {
				// What was written stays written.
				logger.ErrorContext(ctx, "not finished; it can be run again", "settings", summary.Settings, "api_keys", summary.APIKeys)
				return err
			}
			return errors.Join(f.printer().Reencryption(summary, staged), summary.Err())
		},
	}
}
