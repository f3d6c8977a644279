package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/leader"
	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

const (
	outputPlugin = "pgoutput"
	publication  = "provwatch"
	// markerPrefix tells our own WAL messages from those of others.
	markerPrefix = "provwatch"

	// createTimeout is how long creating a slot may take where there is another
	// source: it waits for every transaction of the server that has written and is
	// still running, and nothing is verified meanwhile.
	createTimeout = 5 * time.Second

	// holderTimeout bounds the look for who holds that up.
	holderTimeout = 3 * time.Second

	// attemptTimeout is how long a replication connection may take that is opened to
	// see whether the role may.
	attemptTimeout = 10 * time.Second

	// versionFailover is the first server version with failover slots, as in
	// server_version_num.
	versionFailover = 170000
)

// UnusableError says that the WAL cannot be read from this database as it is.
type UnusableError struct {
	Reason string // includes the remedy
	Err    error  // may be nil
	// Unpublish is set when publishing the tables makes writing to them fail.
	Unpublish bool
	// RoleOnly is set when another role could read the WAL.
	RoleOnly bool
}

func (e *UnusableError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("the WAL cannot be read: %s: %v", e.Reason, e.Err)
	}
	return "the WAL cannot be read: " + e.Reason
}

func (e *UnusableError) Unwrap() error { return e.Err }

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
		return found, Server{}, &UnusableError{Reason: "the server is a standby; connect to the primary"}
	case !found.Identified:
		// Something else in the place of a table has no such identity either.
		_, err := postgres.Locate(ctx, pool)
		var kind *postgres.TableKindError
		if errors.As(err, &kind) {
			return found, server, &UnusableError{Unpublish: true, Reason: kind.Error()}
		}
		return found, server, &UnusableError{Unpublish: true, Reason: "the replica identity of the provider tables is not their primary key id, " +
			"so that publishing them would make updates fail; ALTER TABLE … REPLICA IDENTITY DEFAULT"}
	case found.WalLevel != "logical":
		return found, server, &UnusableError{Reason: fmt.Sprintf("the server has wal_level=%s; set wal_level=logical and restart it", found.WalLevel)}
	case !found.MayPublish:
		return found, server, &UnusableError{Reason: "the provider tables are not published, and the role does not own them; run \"worker migrate --source=wal\" as their owner"}
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
	remedy := "ALTER ROLE " + role + " REPLICATION;"
	if found.IsRds {
		remedy = "GRANT rds_replication TO " + role + ";"
	}
	return &UnusableError{RoleOnly: true, Reason: "the role may not replicate; " + remedy}
}

// dropSlot drops the slot of an eviction, after its holder has ended. It reports whether there was one.
func dropSlot(ctx context.Context, e *eviction) (dropped bool, err error) {
	defer e.end()
	queries := store.On(e.pool)
	for {
		slot, err := queries.InspectSlot(ctx, e.slot)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return dropped, nil
		case err != nil:
			return dropped, fmt.Errorf("look at replication slot %s: %w", e.slot, err)
		}
		if slot.ActivePid != 0 {
			if err := e.step(ctx); err != nil {
				return dropped, err
			}
			continue
		}
		err = queries.DropSlot(ctx, e.slot)
		var pg *pgconn.PgError
		switch {
		case err == nil:
			dropped = true
		case errors.As(err, &pg) && pg.Code == pgerrcode.UndefinedObject: // dropped by somebody else meanwhile
		case errors.As(err, &pg) && pg.Code == pgerrcode.ObjectInUse: // and taken
			if err := e.step(ctx); err != nil {
				return dropped, err
			}
		default:
			return dropped, fmt.Errorf("drop replication slot %s: %w", e.slot, err)
		}
	}
}

// awaitSlot creates the slot. The server waits for every transaction that was running to
// end, of all databases. Where there is another source, that takes no longer than
// createTimeout: the error is then an [*UnusableError].
func (s *session) awaitSlot(ctx context.Context, options pglogrepl.CreateReplicationSlotOptions) (pglogrepl.CreateReplicationSlotResult, error) {
	if !s.Fallback {
		defer s.activity.Begin("the creation of replication slot "+s.server.Slot, s.conn.PID())()
		created, err := pglogrepl.CreateReplicationSlot(ctx, s.conn, s.server.Slot, outputPlugin, options)
		if err != nil {
			return created, fmt.Errorf("create replication slot %s: %w", s.server.Slot, err)
		}
		return created, nil
	}
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	var holders lockwait.Holders
	var late bool
	done := make(chan struct{})
	var watch conc.WaitGroup
	watch.Go(func() {
		select {
		case <-done:
		case <-ctx.Done():
		case <-time.After(createTimeout):
			// While it still waits.
			looking, stop := context.WithTimeout(ctx, holderTimeout)
			defer stop()
			holders, _ = lockwait.Of(looking, s.Pool, s.conn.PID())
			late = true
			cancel()
		}
	})
	created, err := pglogrepl.CreateReplicationSlot(limited, s.conn, s.server.Slot, outputPlugin, options)
	close(done)
	watch.Wait()
	switch {
	case err == nil:
		return created, nil
	case late && ctx.Err() == nil && len(holders) > 0:
		return created, &UnusableError{Reason: fmt.Sprintf("a replication slot was not created within %s: it waits for %s", createTimeout, holders)}
	case late && ctx.Err() == nil:
		return created, &UnusableError{Reason: fmt.Sprintf("a replication slot was not created within %s: a transaction that has been running for longer holds it up; "+
			"end it (pg_stat_activity, xact_start, or pg_prepared_xacts)", createTimeout)}
	default:
		return created, fmt.Errorf("create replication slot %s: %w", s.server.Slot, err)
	}
}

// createSlot creates the slot and mirrors the provider table exactly as of the
// slot's start, by the snapshot that creating it exports. With a reason, a gap is
// recorded in the transaction that makes the new slot count.
func (s *session) createSlot(ctx context.Context, reason string) (*mirror, pglogrepl.LSN, error) {
	server := s.server
	options := pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "EXPORT_SNAPSHOT"}
	if server.Version >= versionFailover {
		options.SnapshotAction = "(SNAPSHOT 'export', FAILOVER true)"
	}
	created, err := s.awaitSlot(ctx, options)
	if err != nil {
		return nil, 0, err
	}
	start, err := pglogrepl.ParseLSN(created.ConsistentPoint)
	if err != nil {
		return nil, 0, fmt.Errorf("create replication slot %s: %w", server.Slot, err)
	}
	// One transaction, which sees the tables as of the slot's start and writes what
	// it sees.
	var m *mirror
	var gap verify.Recorded
	err = postgres.BeginTx(ctx, s.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		m = newMirror(s.hasher)
		// The name comes from the server, which wants it as a literal.
		if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT '"+created.SnapshotName+"'"); err != nil {
			return err
		}
		queries := store.On(tx)
		if err := queries.LimitIdle(ctx); err != nil {
			return err
		}
		m.truncated = true
		for after := uuid.Nil; ; {
			rows, err := queries.ListProvidersAfter(ctx, after, rowsAtOnce, s.Keys)
			if err != nil {
				return err
			}
			for _, row := range rows {
				m.put(m.rowOf(row))
			}
			if err := m.save(ctx, queries); err != nil {
				return err
			}
			m.reset()
			if len(rows) < rowsAtOnce {
				break
			}
			after = rows[len(rows)-1].ID
		}
		started, err := queries.StartWALPosition(ctx, store.StartWALPositionParams{
			Slot: server.Slot, AppliedLsn: start.String(), SystemIdentifier: s.system, Term: s.Term.Number,
		})
		if err != nil {
			return err
		}
		if started == 0 {
			return leader.ErrLaterTerm
		}
		if reason == "" {
			return nil
		}
		gap, err = s.Verifier.Gap(ctx, tx, reason, pubsub.SourceWAL)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("mirror the providers as of the start of replication slot %s: %w", server.Slot, err)
	}
	if reason != "" {
		s.Verifier.Announce(ctx, gap)
	}
	return m, start, nil
}
