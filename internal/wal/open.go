package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// streamState is the state from which a stream goes on.
type streamState struct {
	mirror    *mirror
	position  *position
	confirmer *confirmer
	marks     *marks
}

// storedState is what former streams have left: the slot and the stored position of the WAL.
type storedState struct {
	slot     *store.InspectSlotRow // nil for none
	known    bool                  // there is a position
	position store.ReadWALPositionRow
	system   int64  // the server's identifier, 0 where it is not known
	gap      string // why the slot does not go on from the position, empty when it does
}

// begin finds or creates the slot and the mirror that goes with it, and starts the stream.
func (a *attempt) begin(ctx context.Context, slot *slot) (*streamState, error) {
	r := a.reader
	if err := r.Host.Publish(ctx); err != nil {
		return nil, err
	}
	// That of the verifier, whose hashes are compared with those of the mirror.
	hasher, err := r.Verifier.Hasher(ctx)
	if err != nil {
		return nil, err
	}
	before, err := a.find(ctx, slot)
	if err != nil {
		return nil, err
	}
	b := &streamState{mirror: newMirror(hasher), marks: &marks{}}
	b.position = &position{pool: r.Pool, term: r.Term, slot: slot.server.Slot, system: before.system, maxLag: r.MaxLag}
	b.confirmer = &confirmer{pool: r.Pool, failover: slot.server.Version >= versionFailover, marks: b.marks}
	start, confirmed, err := a.start(ctx, slot, before, b.mirror)
	if err != nil {
		return nil, err
	}
	b.position.applied = start
	b.position.isAt(start)
	if err := b.confirmer.begin(ctx, confirmed, start); err != nil {
		return nil, err
	}
	return b, slot.start(ctx, start)
}

// find finds what there is, and whether the slot goes on from the position.
func (a *attempt) find(ctx context.Context, slot *slot) (f storedState, err error) {
	// Before anything that can wait: attempts that do not come to stream measure the slot
	// all the same.
	tooMuch := ""
	if measured, err := slot.find(ctx); err != nil {
		return f, err
	} else if measured != nil {
		tooMuch = a.retention.measure(ctx, slot.server.Slot, *measured)
	}
	queries := store.On(slot.pool)
	f.position, err = queries.ReadWALPosition(ctx)
	f.known = err == nil
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return f, fmt.Errorf("read provwatch.wal_position: %w", err)
	}
	if f.slot, err = slot.find(ctx); err != nil {
		return f, err
	}
	if f.system, err = queries.SystemIdentifier(ctx); err != nil {
		return f, fmt.Errorf("read the server's system identifier: %w", err)
	}
	// Where no position is known, it is the first time, or another source was the authority:
	// nothing was promised of what the slot may hold.
	f.gap = a.gap
	if f.gap == "" && f.known {
		f.gap = cmp.Or(whyGap(slot.server, f.system, f.position, f.slot), tooMuch)
	}
	return f, nil
}

// start returns where the stream starts, and what was confirmed before. Where the slot does
// not go on from the position, it starts with a new slot.
func (a *attempt) start(ctx context.Context, slot *slot, before storedState, m *mirror) (start, confirmed pglogrepl.LSN, err error) {
	if !before.known || before.gap != "" {
		start, err := a.replace(ctx, slot, before, m)
		return start, start, err
	}
	if start, err = pglogrepl.ParseLSN(before.position.AppliedLsn); err != nil {
		return 0, 0, fmt.Errorf("read provwatch.wal_position: %w", err)
	}
	if confirmed, err = pglogrepl.ParseLSN(before.slot.ConfirmedFlushLsn); err != nil {
		return 0, 0, fmt.Errorf("read the position of replication slot %s: %w", slot.server.Slot, err)
	}
	return start, confirmed, nil
}

// replace drops the slot, creates another, and returns where that one starts.
func (a *attempt) replace(ctx context.Context, slot *slot, before storedState, m *mirror) (pglogrepl.LSN, error) {
	r := a.reader
	// A kill from here on until the new slot counts must not leave the old position with it.
	if err := markGap(ctx, r.Pool, r.Term, before.gap); err != nil {
		return 0, err
	}
	// Once more: the slot can be another leader's by now.
	if err := r.Term.Confirm(ctx, r.Pool); err != nil {
		return 0, err
	}
	if err := slot.drop(ctx); err != nil {
		return 0, err
	}
	created, err := slot.create(ctx)
	if err != nil {
		return 0, err
	}
	if err := a.count(ctx, slot.server.Slot, created, before, m); err != nil {
		return 0, fmt.Errorf("mirror the providers as of the start of replication slot %s: %w", slot.server.Slot, err)
	}
	r.Logger.InfoContext(ctx, "replication slot created", "slot", slot.server.Slot, "at", created.start.String())
	a.gap = ""
	return created.start, nil
}

// count makes a new slot count. One transaction sees the tables exactly as of the slot's
// start, by the snapshot that its creation has exported. The transaction stores the mirror
// of them with the position, and the gap, if there is one.
func (a *attempt) count(ctx context.Context, name string, created createdSlot, before storedState, m *mirror) error {
	r := a.reader
	var gap verify.Recorded
	err := postgres.BeginTx(ctx, r.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		m.reset() // BeginTx can run it again
		queries := store.On(tx)
		if err := queries.ImportSnapshot(ctx, created.snapshot); err != nil {
			return err
		}
		if err := queries.LimitIdle(ctx); err != nil {
			return err
		}
		if err := m.copyTable(ctx, queries, r.Keys); err != nil {
			return err
		}
		started, err := queries.StartWALPosition(ctx, store.StartWALPositionParams{
			Slot: name, AppliedLsn: created.start.String(), SystemIdentifier: before.system, Term: r.Term.Number,
		})
		if err != nil {
			return err
		}
		if started == 0 {
			return store.ErrLaterTerm
		}
		if before.gap == "" {
			return nil
		}
		gap, err = r.Verifier.Gap(ctx, tx, before.gap, pubsub.SourceWAL)
		return err
	})
	if err == nil && before.gap != "" {
		r.Verifier.Announce(ctx, gap)
	}
	return err
}
