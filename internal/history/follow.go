// Package history reads the drift alerts of a database in order. "worker watch" follows
// them.
package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/listener"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/retry"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

// retryAfter is the wait before alerts are read again after a lost connection.
const retryAfter = time.Second

// New is the value of since for a reader that wants only alerts to come.
const New = -1

// Printer prints alerts.
type Printer interface {
	// Alert prints an alert.
	Alert(alert pubsub.DriftAlert) error
}

// Follow prints every alert with a seq above since, in order, until ctx ends or the printer
// fails. Notifications only prompt Follow to read provwatch.drift_alerts, so
// that alerts published while it was disconnected are not missed. When the sequence of
// alerts is rewound, as by a restore, Follow logs so and continues after the last alert
// that still exists. Where alerts above since were pruned, it logs so once. The error is a [*schema.UnusableError] when the tables do not exist at
// the start.
func Follow(ctx context.Context, pool *pgxpool.Pool, config *pgxpool.Config, since int64, logger *slog.Logger, to Printer) error {
	at, err := begin(ctx, pool, since, logger)
	if err != nil {
		return readError(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	prompt := make(prompter, 1)
	listen := listener.New(postgres.ListenConfig(config), prompt, logger)
	listen.Handle(pubsub.DriftAlerts, prompt)
	var group conc.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { listen.Run(ctx) })
	f := follower{pool: pool, at: at, logger: logger, to: to}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-prompt:
		}
		if err := f.catchUp(ctx); err != nil {
			return err
		}
	}
}

// follower prints alerts from a position on. It belongs to one goroutine.
type follower struct {
	pool   *pgxpool.Pool
	at     *position
	logger *slog.Logger
	to     Printer
}

// catchUp prints the alerts up to the last one. It returns nil when ctx ends.
func (f *follower) catchUp(ctx context.Context) error {
	for attempt := range retry.Every(retryAfter).Attempts(ctx) {
		alerts, err := f.at.next(ctx, f.pool, f.logger)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		// The tables are missing, or empty, for a moment while a dump is restored.
		case !postgres.IsConnectionLoss(err) && !schema.IsMissing(err) && !errors.Is(err, pgx.ErrNoRows):
			return readError(err)
		default:
			wait, _ := attempt.Failed()
			f.logger.WarnContext(ctx, "alerts not read, retrying", "error", err, "retry_in", wait)
			continue
		}
		if err := f.print(alerts); err != nil {
			return err
		}
		if len(alerts) < pageSize {
			return nil
		}
	}
	return nil
}

func (f *follower) print(alerts []store.StoredAlert) error {
	for _, alert := range alerts {
		if alert.Err != nil {
			return alert.Err
		}
		if err := f.to.Alert(pubsub.NewDriftAlert(alert)); err != nil {
			return err
		}
		f.at.read(alert)
	}
	return nil
}

// readError explains why alerts cannot be read.
func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case schema.IsMissing(err):
		return &schema.UnusableError{Err: remedy.Problem(`provwatch's tables are not there yet; start "worker run", or run `, remedy.Run("migrate"))}
	default:
		return fmt.Errorf("read provwatch.drift_alerts: %w", err)
	}
}

// prompter prompts a read of the alerts whenever there can be new ones.
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
func (p prompter) CameRound()         {}
