package wal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/store"
)

// slotGone is the reason of a gap where [findSlot] finds none.
const slotGone = "the replication slot no longer exists"

// findSlot returns the server's row of a slot, nil without a slot.
func findSlot(ctx context.Context, db store.DBTX, name string) (*store.InspectSlotRow, error) {
	found, err := store.On(db).InspectSlot(ctx, name)
	switch {
	case err == nil:
		return &found, nil
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	default:
		return nil, fmt.Errorf("look at replication slot %s: %w", name, err)
	}
}

// whyLost returns why the server has invalidated the slot, empty where it has not.
func whyLost(slot store.InspectSlotRow) string {
	if slot.WalStatus != "lost" && slot.Invalidation == "" {
		return ""
	}
	switch slot.Invalidation {
	case "", "wal_removed":
		return "the server has removed WAL that the replication slot needs (max_slot_wal_keep_size)"
	case "idle_timeout":
		return "the server has invalidated the replication slot, which was not read for too long (idle_replication_slot_timeout)"
	case "wal_level_insufficient":
		return "the server has invalidated the replication slot, since its wal_level was not logical"
	case "rows_removed", "conflicting":
		return fmt.Sprintf("the server has invalidated the replication slot, since it conflicted with recovery (%s)", slot.Invalidation)
	default:
		return fmt.Sprintf("the server has invalidated the replication slot (%s)", slot.Invalidation)
	}
}
