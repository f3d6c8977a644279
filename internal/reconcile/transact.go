package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/retry"
)

// A transaction that another writer's commit breaks off is tried once more, after a short
// pause.
const (
	maxTries   = 2
	firstPause = 10 * time.Millisecond
)

// transact does something in one transaction, which cannot write with readOnly set.
func transact(ctx context.Context, pool *pgxpool.Pool, readOnly bool, do func(pgx.Tx) error) (err error) {
	var options pgx.TxOptions
	if readOnly {
		options = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	}
	for attempt := range (retry.Policy{First: firstPause, Tries: maxTries}).Attempts(ctx) {
		if err = pgx.BeginTxFunc(ctx, pool, options, do); !canPass(err) {
			break
		}
		attempt.Failed()
	}
	if canPass(err) && ctx.Err() != nil {
		err = ctx.Err() // in the pause before the other try
	}
	return postgres.WithoutValues(err)
}

// canPass reports whether another attempt that failed can succeed.
func canPass(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains([]string{
		pgerrcode.DeadlockDetected,
		pgerrcode.UniqueViolation,     // the gateway has inserted a row of the name
		pgerrcode.ForeignKeyViolation, // and revoked the key that this encrypts with
	}, pg.Code)
}
