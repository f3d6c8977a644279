package pubsub

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/store"
)

// Publish sends the payloads on the channel, in their order. Inside a
// transaction they go out when it commits, and not at all when it rolls back.
// PostgreSQL drops a payload that repeats another of the same transaction.
func Publish(ctx context.Context, db store.DBTX, channel Channel, payloads ...string) error {
	if err := store.On(db).Notify(ctx, string(channel), payloads); err != nil {
		return fmt.Errorf("publish on channel %s: %w", channel, err)
	}
	return nil
}

// IsQueueFull reports whether err can be the server's refusal of a transaction
// because its queue of notifications is full, which is so while a session that
// listens stays in a transaction. [FreeQueue] is to be called before the
// transaction is tried again.
func IsQueueFull(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == pgerrcode.ProgramLimitExceeded
}

// FreeQueue frees the part of the server's queue of notifications that every session has
// read, and returns how full it was before, from 0 to 1. A full queue stays full until a
// session asks how full it is, even once no session holds it up.
func FreeQueue(ctx context.Context, db store.DBTX) (usage float64, err error) {
	if usage, err = store.On(db).NotificationQueueUsage(ctx); err != nil {
		return 0, fmt.Errorf("free the queue of notifications: %w", err)
	}
	return usage, nil
}
