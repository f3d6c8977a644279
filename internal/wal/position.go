package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/leader"
	"provwatch/internal/store"
)

const (
	// While nothing else is recorded, the position is stored after idleInterval, or after
	// idleBytes of WAL if that is earlier. It is not for fewer than leastBytes: what storing
	// it writes is no reason to store it again.
	idleInterval = 10 * time.Second
	idleBytes    = 16 << 20
	leastBytes   = 1 << 20
)

// position is how far the WAL is handled, and how much of that is stored. The reader's
// goroutine makes it; from the start of the stream on the handler's alone touches it.
type position struct {
	pool   *pgxpool.Pool
	term   *leader.Term
	slot   string
	system int64 // the server's identifier, 0 where it is not known
	maxLag int64 // 0 for no limit

	applied  pglogrepl.LSN // everything up to here is handled
	stored   pglogrepl.LSN // what wal_position says
	storedAt time.Time
}

// isAt records that a position is stored. A position that is confirmed before it is stored
// would look like the doing of another program.
func (p *position) isAt(stored pglogrepl.LSN) {
	p.stored, p.storedAt = stored, time.Now()
}

// has reports whether a transaction was handled before a restart, and recorded.
func (p *position) has(t *transaction) bool { return t.commit < p.stored }

// isDue reports whether the position must be stored although nothing else is recorded, so
// that the server need not keep the WAL of other tables.
func (p *position) isDue() bool {
	ahead := uint64(p.applied - p.stored)
	soon := uint64(idleBytes)
	if p.maxLag > 0 {
		soon = min(soon, uint64(p.maxLag)/4)
	}
	return ahead >= min(leastBytes, soon) && (ahead >= soon || time.Since(p.storedAt) >= idleInterval)
}

// begin begins a transaction that ends with [position.commit]. The lock on the position,
// which must be as this stream left it, keeps a former leader from writing over the
// current one. Where a gap was marked meanwhile, the error is a [gapError]. The caller rolls
// the transaction back where it does not commit it.
func (p *position) begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := p.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	held, err := store.On(tx).LockWALPosition(ctx)
	switch {
	case err != nil:
		err = fmt.Errorf("lock provwatch.wal_position: %w", err)
	case held.Slot != p.slot || held.AppliedLsn != p.stored.String():
		err = errors.New("another worker has recorded from the replication slot meanwhile")
	case held.Gap != "": // such as by a worker that had to publish the tables again
		err = &gapError{reason: held.Gap}
	default:
		return tx, nil
	}
	_ = tx.Rollback(ctx)
	return nil, err
}

// commit writes the position and commits the transaction of [position.begin].
func (p *position) commit(ctx context.Context, tx pgx.Tx, to pglogrepl.LSN) error {
	advanced, err := store.On(tx).AdvanceWALPosition(ctx, store.AdvanceWALPositionParams{
		AppliedLsn: to.String(), SystemIdentifier: p.system, Term: p.term.Number,
	})
	if err != nil {
		return err
	}
	if advanced == 0 {
		return store.ErrLaterTerm
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	p.isAt(to)
	return nil
}

// transact runs do in a transaction, which writes the position, too.
func (p *position) transact(ctx context.Context, to pglogrepl.LSN, do func(pgx.Tx) error) error {
	tx, err := p.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // also where do panics; nothing after the commit
	if err := do(tx); err != nil {
		return err
	}
	return p.commit(ctx, tx, to)
}

// store stores up to where the WAL is handled, and nothing else.
func (p *position) store(ctx context.Context) error {
	return p.transact(ctx, p.applied, func(pgx.Tx) error { return nil })
}

// markGap marks in the stored position that the slot can no longer be relied upon. The
// first reason stands.
func markGap(ctx context.Context, db store.DBTX, term *leader.Term, reason string) error {
	if err := store.On(db).MarkGap(ctx, store.MarkGapParams{Reason: reason, Term: term.Number}); err != nil {
		return fmt.Errorf("mark the gap: %w", err)
	}
	return nil
}
