package main

import (
	"github.com/spf13/cobra"

	"provwatch/internal/wal"
)

func slotCommand(f *flags) *cobra.Command {
	command := &cobra.Command{Use: "slot", Short: "Manage the replication slot of the WAL source"}
	command.AddCommand(&cobra.Command{
		Use:   "drop",
		Short: "Drop the replication slot before uninstalling; a running worker creates it again",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, logger := c.Context(), f.logger()
			pool, _, err := f.open(ctx, logger)
			if err != nil {
				return err
			}
			defer pool.Close()
			defer warnOfWaits(ctx, pool, logger)()
			server, err := wal.Inspect(ctx, pool)
			if server.Slot == "" {
				return err
			}
			dropped, err := wal.DropSlot(ctx, pool, server.Slot)
			if err != nil {
				return err
			}
			return f.printer().SlotDropped(server.Slot, dropped)
		},
	})
	return command
}
