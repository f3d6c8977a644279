package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/remedy"
	"provwatch/internal/retry"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

const (
	// slotBusyPause is the wait for a slot whose former holder is being ended.
	slotBusyPause = 50 * time.Millisecond
	// slotEndPatience is the wait for a holder that the server was told to end. One that
	// takes longer is stopped, or hangs.
	slotEndPatience = 10 * time.Second
	// slotHolderPatience is the wait for a slot whose holder is another role's, which this
	// one cannot end: longer than the server waits for an answer of a replication session.
	// slotHolderPause is the wait between two attempts.
	slotHolderPatience = 30 * time.Second
	slotHolderPause    = time.Second
)

// HeldError says that a session holds a replication slot and does not end.
type HeldError struct {
	Slot   string
	Holder lockwait.Holder
	Err    error // why the role cannot end the session, nil where the server was told to
}

func (e *HeldError) Error() string {
	return e.reason() + "; " + e.remedy().String()
}

func (e *HeldError) reason() string {
	held := fmt.Sprintf("replication slot %s is held by %s, which ", e.Slot, e.Holder)
	if e.Err != nil {
		return fmt.Sprintf("%sis another role's: %v", held, e.Err)
	}
	return held + "did not end after pg_terminate_backend"
}

func (e *HeldError) remedy() remedy.Advice {
	if e.Err != nil {
		return remedy.Advice{"let all workers of a database be one role, or grant theirs pg_signal_backend"}
	}
	return remedy.Advice{"resume its process if it is stopped, else restart the server"}
}

func (e *HeldError) Unwrap() error { return e.Err }

// eviction ends the session that holds a slot, for a caller that then tries again what the
// slot was in use for.
type eviction struct {
	pool *pgxpool.Pool
	slot string
	// othersFor is for how long a holder is waited for that is another role's.
	othersFor time.Duration
	// activity reports the wait, nil where nothing depends on it.
	activity *postgres.Activity

	began    time.Time // of the first step
	reported func()    // ends the report, nil for none
}

// step has the server end the session that holds the slot, if there is one, and waits a
// moment. It returns a [*HeldError] when that has lasted for too long.
func (e *eviction) step(ctx context.Context) error {
	if e.began.IsZero() {
		e.began = time.Now()
	}
	slot, err := findSlot(ctx, e.pool, e.slot)
	if err != nil || slot == nil {
		return err
	}
	held := &HeldError{Slot: e.slot, Holder: lockwait.Holder{PID: slot.ActivePid}}
	patience, pause := slotEndPatience, slotBusyPause
	if slot.ActivePid != 0 {
		if err := e.report(ctx, held); err != nil {
			return err
		}
		err := store.On(e.pool).TerminateSlotHolder(ctx, e.slot)
		switch {
		case schema.IsDenied(err):
			held.Err, patience, pause = err, e.othersFor, slotHolderPause
		case err != nil:
			return fmt.Errorf("end the session that streams from replication slot %s: %w", e.slot, err)
		}
	}
	if time.Since(e.began) >= patience {
		return held
	}
	return retry.Sleep(ctx, pause)
}

// report finds out who the holder is, and reports that it is waited for.
func (e *eviction) report(ctx context.Context, held *HeldError) error {
	found, err := lockwait.Session(ctx, e.pool, held.Holder.PID)
	if err != nil {
		return err
	}
	held.Holder = found
	if e.reported == nil {
		e.reported = e.activity.Begin(fmt.Sprintf("%s, which holds replication slot %s and must end,", found, e.slot), 0)
	}
	return nil
}

// end ends the report.
func (e *eviction) end() {
	if e.reported != nil {
		e.reported()
		e.reported = nil
	}
}

// drop drops the slot, once its holder has ended. It reports whether there was one.
func (e *eviction) drop(ctx context.Context) (dropped bool, err error) {
	defer e.end()
	queries := store.On(e.pool)
	for {
		slot, err := findSlot(ctx, e.pool, e.slot)
		if err != nil || slot == nil {
			return dropped, err
		}
		if slot.ActivePid != 0 {
			if err := e.step(ctx); err != nil {
				return dropped, err
			}
			continue
		}
		err = queries.DropSlot(ctx, e.slot)
		var pg *pgconn.PgError
		switch {
		case err == nil:
			dropped = true
		case errors.As(err, &pg) && pg.Code == pgerrcode.UndefinedObject: // another session has dropped it
		case errors.As(err, &pg) && pg.Code == pgerrcode.ObjectInUse: // another session has taken it
			if err := e.step(ctx); err != nil {
				return dropped, err
			}
		default:
			return dropped, fmt.Errorf("drop replication slot %s: %w", e.slot, err)
		}
	}
}

// DropSlot drops the slot of the database, and ends the session that streams from it. It reports
// whether there was one. The error is a [*HeldError] when its holder does not end.
func DropSlot(ctx context.Context, pool *pgxpool.Pool, slot string) (dropped bool, err error) {
	e := eviction{pool: pool, slot: slot}
	return e.drop(ctx)
}
