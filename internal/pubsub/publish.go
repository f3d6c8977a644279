package pubsub

import (
	"context"
	"fmt"
	"slices"

	"provwatch/internal/store"
)

// Publish sends the payloads on the channel, in their order. Inside a
// transaction they go out when it commits, and not at all when it rolls back.
// PostgreSQL drops a payload that repeats another of the same transaction.
func Publish(ctx context.Context, db store.DBTX, channel Channel, payloads ...string) error {
	var params []store.NotifyParams
	for chunk := range slices.Chunk(payloads, store.Chunk) {
		params = append(params, store.NotifyParams{Channel: string(channel), Payloads: chunk})
	}
	if len(params) == 0 {
		return nil
	}
	if err := store.FirstError(store.New(db).Notify(ctx, params).Exec); err != nil {
		return fmt.Errorf("publish on channel %s: %w", channel, err)
	}
	return nil
}
