package wal

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/leader"
	"provwatch/internal/retry"
	"provwatch/internal/store"
)

// slotInterval is how often the retained bytes of the slot are measured, and
// quietSlotInterval while the stream shows no WAL.
const (
	slotInterval      = 5 * time.Second
	quietSlotInterval = time.Minute
)

// retention measures what the slot retains. The reader's goroutine uses it until a stream
// has begun, and the monitor's until that stream ends.
type retention struct {
	maxLag  int64 // 0 for no limit
	logger  *slog.Logger
	metrics Metrics
	warned  bool // that the slot retains much
}

// measure passes on what the slot retains. It returns why the slot is to be given up for
// it, empty where it is not.
func (r *retention) measure(ctx context.Context, name string, slot store.InspectSlotRow) (reason string) {
	r.metrics.SlotObserved(SlotStatus{RetainedBytes: slot.RetainedBytes, WALStatus: slot.WalStatus})
	if r.maxLag == 0 {
		return ""
	}
	if slot.RetainedBytes > r.maxLag {
		return fmt.Sprintf("the replication slot retains %d bytes of WAL, more than --slot-max-lag", slot.RetainedBytes)
	}
	if over := slot.RetainedBytes > r.maxLag/2; over != r.warned {
		r.warned = over
		if over {
			r.logger.WarnContext(ctx, "the replication slot retains more than half of --slot-max-lag",
				"slot", name, "retained_bytes", slot.RetainedBytes, "wal_status", slot.WalStatus)
		}
	}
	return ""
}

// monitor measures the slot of a stream, and gives it up rather than fill the server's
// disk. Its own goroutine alone touches it.
type monitor struct {
	pool      *pgxpool.Pool
	term      *leader.Term
	slot      string
	retention *retention
	marks     *marks // shared with the stream and the handler
}

// run measures until something ends the stream, or ctx ends.
//
// While the stream shows no WAL, there is little to measure. It does so from time to time
// all the same: a stream can be silent because it stands still, or because a full backlog
// keeps it from being read.
func (m *monitor) run(ctx context.Context) error {
	var measuredAt time.Time
	var before [2]pglogrepl.LSN
	for again := 0; ; {
		// Once more after the last change: the server follows a confirmation later.
		now := [2]pglogrepl.LSN{m.marks.end.load(), m.marks.confirmed.load()}
		if now != before {
			before, again = now, 2
		}
		if again > 0 || time.Since(measuredAt) >= quietSlotInterval {
			if err := m.check(ctx); err != nil {
				return err
			}
			again, measuredAt = max(again-1, 0), time.Now()
		}
		if err := retry.Sleep(ctx, slotInterval); err != nil {
			return err
		}
	}
}

// check measures the slot once, and checks that the WAL can still be used.
func (m *monitor) check(ctx context.Context) error {
	// What made the WAL usable can end, and some of it harms writers; so can leading,
	// before the listener notices.
	if _, _, err := inspect(ctx, m.pool); err != nil {
		return err
	}
	if err := m.term.Confirm(ctx, m.pool); err != nil {
		return err
	}
	slot, err := findSlot(ctx, m.pool, m.slot)
	switch {
	case err != nil:
		return err
	case slot == nil:
		return &gapError{reason: slotGone}
	case whyLost(*slot) != "":
		return &gapError{reason: whyLost(*slot)}
	}
	// A table that is dropped and created again drops out of the publication silently, and
	// its owner can have only some rows or columns published.
	published, err := store.On(m.pool).IsPublished(ctx)
	if err != nil {
		return fmt.Errorf("look at the publication: %w", err)
	}
	if !published {
		const reason = "the provider tables are no longer published as required: a table was created again, or the publication was changed"
		// It is a gap too if the tables can be published by the next worker alone.
		if err := markGap(ctx, m.pool, m.term, reason); err != nil {
			return err
		}
		return &gapError{reason: reason}
	}
	if err := m.checkMarked(ctx); err != nil {
		return err
	}
	if reason := m.retention.measure(ctx, m.slot, *slot); reason != "" {
		return &gapError{reason: reason}
	}
	return nil
}

// checkMarked returns the gap that another session has marked since the stream began: a worker
// that boots can find the tables unpublished, and publish them again, before this one does.
func (m *monitor) checkMarked(ctx context.Context) error {
	marked, err := store.On(m.pool).ReadWALGap(ctx)
	if err != nil {
		return fmt.Errorf("look for a gap in provwatch.wal_position: %w", err)
	}
	if reason := strings.Join(marked, ""); reason != "" {
		return &gapError{reason: reason}
	}
	return nil
}
