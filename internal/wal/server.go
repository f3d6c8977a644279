package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

// attemptTimeout is how long opening a replication connection may take.
const attemptTimeout = 10 * time.Second

// Server is what matters of a server for reading its WAL.
type Server struct {
	Version int
	// Slot is the name of this database's slot. Slots are named for the whole
	// server, hence the database's oid in it.
	Slot string
}

// Inspect looks whether the WAL can be read. For a role without the attribute
// REPLICATION it tries a replication connection. The error is an [*UnusableError], or
// that of a connection.
func Inspect(ctx context.Context, pool *pgxpool.Pool) (Server, error) {
	found, server, err := inspect(ctx, pool)
	if err != nil || found.MayReplicate {
		return server, err
	}
	return server, tryReplication(ctx, pool, found)
}

// inspect is [Inspect] without the try. Its callers have a replication connection, or
// open one next, which shows whether the role may.
func inspect(ctx context.Context, pool *pgxpool.Pool) (store.InspectReplicationRow, Server, error) {
	found, err := store.On(pool).InspectReplication(ctx)
	if err != nil {
		return found, Server{}, fmt.Errorf("look at the server's replication settings: %w", err)
	}
	server := Server{Version: int(found.ServerVersion), Slot: fmt.Sprintf("provwatch_%d", found.DatabaseOid)}
	switch {
	case found.InRecovery:
		// Nor is a slot there this worker's to drop.
		return found, Server{}, &UnusableError{Reason: "the server is a standby", Remedy: remedy.Advice{"connect to the primary"}}
	case !found.Identified:
		// Something else in the place of a table has no such identity either.
		_, err := postgres.Locate(ctx, pool)
		var kind *postgres.TableKindError
		if errors.As(err, &kind) {
			return found, server, &UnusableError{Unpublish: true, Reason: kind.Error()}
		}
		return found, server, &UnusableError{
			Unpublish: true,
			Reason:    "the replica identity of the provider tables is not their primary key id, so that publishing them would make updates fail",
			Remedy:    remedy.Advice{"ALTER TABLE … REPLICA IDENTITY DEFAULT"},
		}
	case found.WalLevel != "logical":
		return found, server, &UnusableError{Reason: "the server has wal_level=" + found.WalLevel, Remedy: remedy.Advice{"set wal_level=logical and restart it"}}
	case !found.MayPublish:
		return found, server, &UnusableError{
			Reason: "the provider tables are not published, and the role does not own them",
			Remedy: remedy.Advice{"run ", remedy.Run("migrate", "--source=wal"), " as their owner"},
		}
	}
	return found, server, nil
}

// tryReplication opens a replication connection and closes it. The error is an
// [*UnusableError] where the server refuses it for the role's sake.
func tryReplication(ctx context.Context, pool *pgxpool.Pool, found store.InspectReplicationRow) error {
	limited, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	conn, err := pgconn.ConnectConfig(limited, &postgres.ReplicationConfig(pool.Config()).Config)
	switch {
	case schema.IsDenied(err):
		return mayNotReplicate(found)
	case asFull(err) != nil:
		return asFull(err)
	case asUnusable(err) != nil:
		return asUnusable(err)
	case err != nil:
		return fmt.Errorf("try a replication connection: %w", err)
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(closing)
	return nil
}

func mayNotReplicate(found store.InspectReplicationRow) *UnusableError {
	role := pgx.Identifier{found.Role}.Sanitize()
	statement := "ALTER ROLE " + role + " REPLICATION;"
	if found.IsRds {
		statement = "GRANT rds_replication TO " + role + ";"
	}
	return &UnusableError{RoleOnly: true, Reason: "the role cannot replicate", Remedy: remedy.Advice{statement}}
}
