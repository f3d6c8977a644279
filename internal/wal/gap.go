package wal

import (
	"fmt"

	"github.com/jackc/pglogrepl"

	"provwatch/internal/store"
)

// whyGap returns why the slot does not go on from the stored position, empty when it does:
// changes may have passed unseen. slot is nil where there is none, and system the server's
// identifier, 0 where it is not known.
func whyGap(server Server, system int64, position store.ReadWALPositionRow, slot *store.InspectSlotRow) string {
	switch {
	case position.Slot != server.Slot:
		return fmt.Sprintf("the database has the position of slot %s, as after a restore or a copy", position.Slot)
	case system != 0 && position.SystemIdentifier != 0 && position.SystemIdentifier != system:
		return fmt.Sprintf("the database has the position of another server, as after a restore or a copy: its system identifier is %d, and that of this one %d",
			position.SystemIdentifier, system)
	case position.IsFuture:
		return fmt.Sprintf("the position %s is ahead of the server's WAL, as after a restore", position.AppliedLsn)
	case position.Gap != "":
		return position.Gap
	case slot == nil:
		return slotGone
	case !slot.IsOurs:
		return "another client created a replication slot of this name"
	}
	if lost := whyLost(*slot); lost != "" {
		return lost
	}
	// What is confirmed was stored before.
	confirmed, err := pglogrepl.ParseLSN(slot.ConfirmedFlushLsn)
	if err != nil {
		return "the replication slot has confirmed nothing: another client created a slot of this name"
	}
	if stored, err := pglogrepl.ParseLSN(position.AppliedLsn); err == nil && confirmed > stored {
		return fmt.Sprintf("the replication slot is at %s and the worker was at %s: another client advanced, read or created it, or the database was restored", confirmed, stored)
	}
	return ""
}
