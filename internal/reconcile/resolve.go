package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/store"
)

// A resolution that fails since its key was revoked is tried once more, after a short pause.
const (
	maxTries     = 2
	revokedPause = 10 * time.Millisecond
)

// resolution ends the drift of one provider by taking a side.
type resolution struct {
	keys    *dbcrypt.Ring
	desired provider.Desired
	mode    drift.CredentialMode
	side    side
	actor   string
}

// side is the side that a resolution takes: the environment or the database.
type side interface {
	// take ends the drift of the step, in a transaction that holds the seed lock and the
	// lock of the row.
	take(ctx context.Context, tx pgx.Tx, step drift.Step, with encryption, actor string) (Outcome, error)
}

// encryption decrypts stored secrets and encrypts the new ones.
type encryption struct {
	keys   *dbcrypt.Ring
	sealer dbcrypt.Sealer
}

func (r resolution) run(ctx context.Context, pool *pgxpool.Pool) (outcome Outcome, err error) {
	for attempt := range (retry.Policy{First: revokedPause, Tries: maxTries}).Attempts(ctx) {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			outcome, err = r.resolve(ctx, tx)
			return err
		})
		if !isRevoked(err) {
			break
		}
		attempt.Failed()
	}
	if isRevoked(err) && ctx.Err() != nil {
		err = ctx.Err() // in the pause before the other try
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("resolve provider %q: %w", r.desired.Name, postgres.WithoutValues(err))
	}
	return outcome, nil
}

func (r resolution) resolve(ctx context.Context, tx pgx.Tx) (Outcome, error) {
	queries := store.On(tx)
	if err := queries.LockSeed(ctx, store.SeedLock); err != nil {
		return Outcome{}, fmt.Errorf("take the seed lock: %w", err)
	}
	// A gateway may be writing to the row, to rotate its credentials or to turn
	// encryption on. It commits before the row is read.
	if _, err := queries.LockProviders(ctx, r.desired.Name); err != nil {
		return Outcome{}, fmt.Errorf("lock its row: %w", err)
	}
	sealer, err := queries.WriteSealer(ctx, r.keys)
	if err != nil {
		return Outcome{}, err
	}
	stored, err := queries.LoadStored(ctx, []string{r.desired.Name}, r.keys, r.mode.Compares())
	if err != nil {
		return Outcome{}, err
	}
	step := drift.MakePlan([]provider.Desired{r.desired}, stored, r.mode).Steps[0]
	if step.Action == drift.ActionUnsupported {
		return Outcome{}, fmt.Errorf("the database's enum ai_provider_type lacks the type %s", r.desired.Type)
	}
	outcome, err := r.side.take(ctx, tx, step, encryption{r.keys, sealer}, r.actor)
	if err != nil || !outcome.Written() {
		return outcome, err
	}
	// Running workers verify the provider, with our triggers or without, and deliver the
	// audit entries, which the operator's role cannot.
	if err := pubsub.Publish(ctx, tx, pubsub.ProvidersChanged, outcome.ProviderID.String()); err != nil {
		return outcome, err
	}
	return outcome, pubsub.Publish(ctx, tx, pubsub.StagedEntries, "")
}

// isRevoked reports whether a write failed because the key that it encrypted with was
// revoked meanwhile. Another attempt finds the key that is active then.
func isRevoked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == pgerrcode.ForeignKeyViolation
}
