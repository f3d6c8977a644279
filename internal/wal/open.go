package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/leader"
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

// opener opens one stream after another, each with what the former ones have left. The
// reader's goroutine alone touches it.
type opener struct {
	pool      *pgxpool.Pool
	term      *leader.Term
	verifier  *verify.Verifier
	keys      *dbcrypt.Ring // nil: encrypted settings cannot be decoded
	host      Host
	logger    *slog.Logger
	retention *retention // shared with the monitor of each stream

	gap string // why the next stream must start with a new slot, empty where it need not
}

// open finds or creates the slot and the mirror that goes with it, and starts the stream.
func (o *opener) open(ctx context.Context, slot *slot) (*streamState, error) {
	if err := o.host.Publish(ctx); err != nil {
		return nil, err
	}
	// That of the verifier, whose hashes are compared with those of the mirror.
	hasher, err := o.verifier.Hasher(ctx)
	if err != nil {
		return nil, err
	}
	before, err := o.find(ctx, slot)
	if err != nil {
		return nil, err
	}
	b := &streamState{mirror: newMirror(hasher), marks: &marks{}}
	b.position = &position{pool: o.pool, term: o.term, slot: slot.server.Slot, system: before.system, maxLag: o.retention.maxLag}
	b.confirmer = &confirmer{pool: o.pool, failover: slot.server.Version >= versionFailover, marks: b.marks}
	start, confirmed, err := o.start(ctx, slot, before, b.mirror)
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
func (o *opener) find(ctx context.Context, slot *slot) (f storedState, err error) {
	// Before anything that can wait: attempts that do not come to stream measure the slot
	// all the same.
	tooMuch := ""
	if measured, err := slot.find(ctx); err != nil {
		return f, err
	} else if measured != nil {
		tooMuch = o.retention.measure(ctx, slot.server.Slot, *measured)
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
	f.gap = o.gap
	if f.gap == "" && f.known {
		f.gap = cmp.Or(whyGap(slot.server, f.system, f.position, f.slot), tooMuch)
	}
	return f, nil
}

// start returns where the stream starts, and what was confirmed before. Where the slot does
// not go on from the position, it starts with a new slot.
func (o *opener) start(ctx context.Context, slot *slot, before storedState, m *mirror) (start, confirmed pglogrepl.LSN, err error) {
	if !before.known || before.gap != "" {
		start, err := o.replace(ctx, slot, before, m)
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
func (o *opener) replace(ctx context.Context, slot *slot, before storedState, m *mirror) (pglogrepl.LSN, error) {
	// A kill from here on until the new slot counts must not leave the old position with it.
	if err := markGap(ctx, o.pool, o.term, before.gap); err != nil {
		return 0, err
	}
	// Once more: the slot can be another leader's by now.
	if err := o.term.Confirm(ctx, o.pool); err != nil {
		return 0, err
	}
	if err := slot.drop(ctx); err != nil {
		return 0, err
	}
	created, err := slot.create(ctx)
	if err != nil {
		return 0, err
	}
	if err := o.count(ctx, slot.server.Slot, created, before, m); err != nil {
		return 0, fmt.Errorf("mirror the providers as of the start of replication slot %s: %w", slot.server.Slot, err)
	}
	o.logger.InfoContext(ctx, "replication slot created", "slot", slot.server.Slot, "at", created.start.String())
	o.gap = ""
	return created.start, nil
}

// count makes a new slot count. One transaction sees the tables exactly as of the slot's
// start, by the snapshot that its creation has exported. The transaction stores the mirror
// of them with the position, and the gap, if there is one.
func (o *opener) count(ctx context.Context, name string, created createdSlot, before storedState, m *mirror) error {
	var gap verify.Recorded
	err := postgres.BeginTx(ctx, o.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		m.reset() // BeginTx can run it again
		queries := store.On(tx)
		if err := queries.ImportSnapshot(ctx, created.snapshot); err != nil {
			return err
		}
		if err := queries.LimitIdle(ctx); err != nil {
			return err
		}
		if err := m.copyTable(ctx, queries, o.keys); err != nil {
			return err
		}
		started, err := queries.StartWALPosition(ctx, store.StartWALPositionParams{
			Slot: name, AppliedLsn: created.start.String(), SystemIdentifier: before.system, Term: o.term.Number,
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
		gap, err = o.verifier.Gap(ctx, tx, before.gap, pubsub.SourceWAL)
		return err
	})
	if err == nil && before.gap != "" {
		o.verifier.Announce(ctx, gap)
	}
	return err
}
