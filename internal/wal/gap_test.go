package wal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/store"
)

// TestWhyGap has what the server says of a slot.
func TestWhyGap(t *testing.T) {
	t.Parallel()
	server := Server{Slot: "s"}
	for name, c := range map[string]struct {
		change func(*store.ReadWALPositionRow, *store.InspectSlotRow)
		want   string
	}{
		"none":                 {func(*store.ReadWALPositionRow, *store.InspectSlotRow) {}, ""},
		"marked before":        {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.Gap = "it was lost" }, "it was lost"},
		"another slot":         {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.Slot = "other" }, "position of slot other"},
		"another server":       {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.SystemIdentifier = 8 }, "identifier is 8, and that of this one 7"},
		"a server not noted":   {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.SystemIdentifier = 0 }, ""},
		"the future":           {func(p *store.ReadWALPositionRow, _ *store.InspectSlotRow) { p.IsFuture = true }, "0/20 is ahead of the server's WAL"},
		"a slot behind":        {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.ConfirmedFlushLsn = "0/1F" }, ""},
		"a slot ahead":         {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.ConfirmedFlushLsn = "0/21" }, "at 0/21 and the worker was at 0/20: another client advanced, read or created it, or the database was restored"},
		"a physical slot":      {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.IsOurs = false }, "another client created a replication slot of this name"},
		"one that has nothing": {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.ConfirmedFlushLsn = "" }, "confirmed nothing"},
		"lost before 16":       {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.WalStatus = "lost" }, "(max_slot_wal_keep_size)"},
		"removed":              {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "wal_removed" }, "(max_slot_wal_keep_size)"},
		"idle":                 {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "idle_timeout" }, "(idle_replication_slot_timeout)"},
		"wal_level":            {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "wal_level_insufficient" }, "wal_level was not logical"},
		"conflicting":          {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "conflicting" }, "recovery (conflicting)"},
		"of a later version":   {func(_ *store.ReadWALPositionRow, s *store.InspectSlotRow) { s.Invalidation = "a_new_one" }, "slot (a_new_one)"},
	} {
		position := store.ReadWALPositionRow{Slot: "s", AppliedLsn: "0/20", SystemIdentifier: 7}
		slot := store.InspectSlotRow{WalStatus: "reserved", ConfirmedFlushLsn: "0/20", IsOurs: true}
		c.change(&position, &slot)
		got := whyGap(server, 7, position, &slot)
		if c.want == "" {
			require.Empty(t, got, name)
			continue
		}
		require.Contains(t, got, c.want, name)
	}
	require.Equal(t, slotGone, whyGap(server, 0, store.ReadWALPositionRow{Slot: "s", SystemIdentifier: 7}, nil))
}
