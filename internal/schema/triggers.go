package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/store"
	sqlfiles "provwatch/sql"
)

// removalLockTimeout keeps the removal of triggers from making writers wait behind it.
const removalLockTimeout = "100ms"

// TriggerState says whether our triggers notify of the changes to the provider tables.
type TriggerState int

// The states of our triggers.
const (
	TriggersMissing TriggerState = iota // not all are there and enabled; a table that is dropped and created again has none
	TriggersPartial                     // all are there, and some do not fire with session_replication_role = replica
	TriggersAlways                      // all fire in every session
)

// Triggers are our triggers as they were found.
type Triggers struct {
	State TriggerState
	// Version differs once any trigger was made, replaced, enabled or disabled, or a table was
	// made again: what was changed meanwhile can have passed without a notification. It is not
	// empty.
	Version string
}

// FindTriggers returns our triggers.
func FindTriggers(ctx context.Context, pool *pgxpool.Pool) (Triggers, error) {
	found, err := store.On(pool).CountTriggers(ctx)
	if err != nil {
		return Triggers{}, unusable("look at the triggers", err)
	}
	t := Triggers{State: TriggersMissing, Version: found.Version}
	switch {
	case found.Always >= triggers:
		t.State = TriggersAlways
	case found.Usable >= triggers:
		t.State = TriggersPartial
	}
	return t, nil
}

// RemoveTriggers removes our triggers from the provider tables, which the WAL
// source does not need. Removing one needs the whole table for itself, and while
// it waits for that everybody else waits behind it: it gives up soon, and is to
// be tried again later. Triggers that stay do no harm but cost writers a little.
func RemoveTriggers(ctx context.Context, pool *pgxpool.Pool) error {
	count, err := store.On(pool).CountTriggers(ctx)
	if err != nil {
		return unusable("look at the triggers", err)
	}
	if count.Found == 0 {
		return nil
	}
	return withConn(ctx, pool.Config().ConnConfig, func(conn *pgx.Conn) error {
		if _, err := store.Gateway(conn).Exec(ctx, "SET lock_timeout = '"+removalLockTimeout+"'; "+sqlfiles.DropTriggers); err != nil {
			return fmt.Errorf("remove the triggers on the provider tables: %w", err)
		}
		return nil
	})
}

// DropPublication drops the publication, which makes updates of the provider
// tables fail once their replica identity is another than their id.
func DropPublication(ctx context.Context, config *pgx.ConnConfig) error {
	return withConn(ctx, config, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, sqlfiles.DropPublication); err != nil {
			return fmt.Errorf("drop the publication: %w", err)
		}
		return nil
	})
}
