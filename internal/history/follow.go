// Package history follows the drift alerts of a database, for "worker watch".
package history

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/drift"
	"provwatch/internal/listener"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

const (
	// pageSize is how many alerts are read at a time.
	pageSize = 500
	// retryAfter is the wait before alerts are read again after a lost connection.
	retryAfter = time.Second
)

// New is the value of since for a reader that wants no alert that is there already.
const New = -1

// readError explains why alerts cannot be read.
func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case schema.IsMissing(err):
		return &schema.UnusableError{Reason: "provwatch's tables are not there yet; start \"worker run\", or run \"worker migrate\""}
	default:
		return fmt.Errorf("read provwatch.drift_alerts: %w", err)
	}
}

// Follow calls show for every alert with a seq above since, in order, until ctx
// ends or show fails. Notifications only prompt it to read
// provwatch.drift_alerts, so that alerts published while it was disconnected are
// not missed. When the sequence of alerts is rewound, as by a restore, it logs so and goes
// on after the last alert that is still there. The error is a [*schema.UnusableError] when
// the tables are not there at the start.
func Follow(ctx context.Context, pool *pgxpool.Pool, config *pgxpool.Config, since int64, logger *slog.Logger, show func(pubsub.DriftAlert) error) error {
	at, err := begin(ctx, store.On(pool), since, logger)
	if err != nil {
		return readError(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prompt := make(prompter, 1)
	listen := listener.New(postgres.ListenConfig(config), pubsub.DriftAlerts, prompt, logger)
	var group conc.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { listen.Run(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-prompt:
		}
		for {
			alerts, err := at.next(ctx, store.On(pool), logger)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				// The tables are gone for a moment while a dump is restored.
				if !postgres.IsConnectionLoss(err) && !schema.IsMissing(err) {
					return readError(err)
				}
				logger.WarnContext(ctx, "alerts not read, trying again", "error", err, "retry_in", retryAfter)
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(retryAfter):
				}
				continue
			}
			for _, row := range alerts {
				alert, err := Alert(row)
				if err != nil {
					return err
				}
				if err := show(alert); err != nil {
					return err
				}
				at.read(row)
			}
			if len(alerts) < pageSize {
				break
			}
		}
	}
}

// Alert returns the alert of a row.
func Alert(row store.ListAlertsSinceRow) (pubsub.DriftAlert, error) {
	alert := pubsub.DriftAlert{
		V: pubsub.Version, ID: row.ID, Seq: row.Seq, Kind: drift.Kind(row.Kind), Provider: row.Provider, ProviderID: row.ProviderID,
		EnvHash: row.EnvHash, DBHash: row.DbHash, Source: pubsub.Source(row.Source), DetectedAt: row.DetectedAt.UTC(),
		HashKeyed: provider.IsKeyed(row.EnvHash) || provider.IsKeyed(row.DbHash),
		Epoch:     row.Epoch, Reason: row.Reason, Certain: row.Certain,
	}
	if row.Lsn != "" && row.CommittedAt != nil {
		alert.Commit = &pubsub.Commit{LSN: row.Lsn, XID: row.Xid, CommittedAt: row.CommittedAt.UTC()}
	}
	if err := json.Unmarshal(row.Fields, &alert.Fields); err != nil {
		return alert, fmt.Errorf("decode the fields of alert %d: %w", row.Seq, err)
	}
	return alert, nil
}

// prompter prompts a look at the alerts whenever there can be new ones.
type prompter chan struct{}

func (p prompter) prompt() {
	select {
	case p <- struct{}{}:
	default:
	}
}

func (p prompter) Listening(bool)     { p.prompt() }
func (p prompter) Notified(string)    { p.prompt() }
func (p prompter) Gather(bool)        {}
func (p prompter) QueueUsage(float64) {}
func (p prompter) Lost(error)         {}
