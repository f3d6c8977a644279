package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

const (
	outputPlugin = "pgoutput"
	publication  = "provwatch"

	// createTimeout is how long the creation of a slot may take where there is another
	// source. The server waits for every transaction that has written and still runs, and
	// nothing is verified meanwhile.
	createTimeout = 5 * time.Second

	// holderTimeout bounds the search for the holder of that.
	holderTimeout = 3 * time.Second

	// versionFailover is the first server version with failover slots, as in
	// server_version_num.
	versionFailover = 170000
)

// slot is the replication slot of the database. Only the reader's goroutine uses it, and
// only until the stream has begun.
type slot struct {
	server   Server
	pool     *pgxpool.Pool
	conn     *pgconn.PgConn // the replication connection
	activity *postgres.Activity
	// fallback: there is another source.
	fallback bool
}

// createdSlot is a slot that [slot.create] has created.
type createdSlot struct {
	start    pglogrepl.LSN
	snapshot string // of the tables as of start, until the connection is used again
}

// find returns the server's row of the slot, nil where there is none.
func (s *slot) find(ctx context.Context) (*store.InspectSlotRow, error) {
	return findSlot(ctx, s.pool, s.server.Slot)
}

// drop drops the slot, once its holder has ended.
func (s *slot) drop(ctx context.Context) error {
	_, err := s.evict().drop(ctx)
	return err
}

// evict begins the eviction of the slot's holder: only the leader streams, and that is
// this worker. Where there is another source, the wait is not reported: notifications
// are used within half a minute.
func (s *slot) evict() *eviction {
	e := &eviction{pool: s.pool, slot: s.server.Slot, othersFor: slotHolderPatience}
	if !s.fallback {
		e.activity = s.activity
	}
	return e
}

// create creates the slot, and exports a snapshot of the tables as of its start. The
// server waits for every running transaction to end, of all databases. Where there is
// another source, that takes no longer than createTimeout: the error is then an
// [*UnusableError].
func (s *slot) create(ctx context.Context) (createdSlot, error) {
	create := s.createReported
	if s.fallback {
		create = s.createBounded
	}
	result, err := create(ctx)
	if err != nil {
		return createdSlot{}, err
	}
	start, err := pglogrepl.ParseLSN(result.ConsistentPoint)
	if err != nil {
		return createdSlot{}, fmt.Errorf("create replication slot %s: %w", s.server.Slot, err)
	}
	return createdSlot{start: start, snapshot: result.SnapshotName}, nil
}

// createReported reports the creation while it lasts.
func (s *slot) createReported(ctx context.Context) (pglogrepl.CreateReplicationSlotResult, error) {
	defer s.activity.Begin("the creation of replication slot "+s.server.Slot, s.conn.PID())()
	return s.request(ctx)
}

// request has the server create the slot.
func (s *slot) request(ctx context.Context) (pglogrepl.CreateReplicationSlotResult, error) {
	options := pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: "EXPORT_SNAPSHOT"}
	if s.server.Version >= versionFailover {
		options.SnapshotAction = "(SNAPSHOT 'export', FAILOVER true)"
	}
	result, err := pglogrepl.CreateReplicationSlot(ctx, s.conn, s.server.Slot, outputPlugin, options)
	if err != nil {
		return result, fmt.Errorf("create replication slot %s: %w", s.server.Slot, err)
	}
	return result, nil
}

// createBounded gives up after createTimeout, and returns what holds the creation up.
func (s *slot) createBounded(ctx context.Context) (pglogrepl.CreateReplicationSlotResult, error) {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	var holders lockwait.Holders // of the timer until it has ended, as late
	var late bool
	done := make(chan struct{})
	var timer conc.WaitGroup
	timer.Go(func() {
		select {
		case <-done:
		case <-ctx.Done():
		case <-time.After(createTimeout):
			// While the server still waits.
			looking, stop := context.WithTimeout(ctx, holderTimeout)
			defer stop()
			holders, _ = lockwait.Of(looking, s.pool, s.conn.PID())
			late = true
			cancel()
		}
	})
	result, err := s.request(limited)
	close(done)
	timer.Wait()
	switch {
	case err == nil, !late, ctx.Err() != nil:
		return result, err
	case len(holders) > 0:
		return result, &UnusableError{Reason: fmt.Sprintf("a replication slot was not created within %s: it waits for %s", createTimeout, holders)}
	default:
		return result, &UnusableError{
			Reason: fmt.Sprintf("a replication slot was not created within %s: a transaction that has been running for longer holds it up", createTimeout),
			Remedy: remedy.Advice{"end it (pg_stat_activity, xact_start, or pg_prepared_xacts)"},
		}
	}
}

// start starts the stream, which goes on from what the slot has confirmed. stored is the
// stored position.
func (s *slot) start(ctx context.Context, stored pglogrepl.LSN) error {
	options := pglogrepl.StartReplicationOptions{PluginArgs: []string{
		"proto_version '1'", "publication_names '" + publication + "'", "messages 'true'",
	}}
	holder := s.evict()
	defer holder.end()
	for {
		started := s.activity.Begin("the start of replication from slot "+s.server.Slot, s.conn.PID())
		// Position 0 means: from what the slot has confirmed.
		starting, cancel := context.WithTimeout(ctx, slotHolderPatience)
		err := pglogrepl.StartReplication(starting, s.conn, s.server.Slot, 0, options)
		cancel()
		started()
		var pg *pgconn.PgError
		switch {
		case err == nil:
			return s.compare(ctx, stored)
		case !errors.As(err, &pg):
			return fmt.Errorf("start streaming from replication slot %s: %w", s.server.Slot, err)
		case pg.Code == pgerrcode.ObjectInUse:
			if err := holder.step(ctx); err != nil {
				return err
			}
		case pg.Code == pgerrcode.UndefinedObject:
			return &gapError{reason: slotGone}
		case pg.Code == pgerrcode.ObjectNotInPrerequisiteState:
			return &gapError{reason: "the server refuses to stream from the replication slot: " + pg.Message}
		default:
			return fmt.Errorf("start streaming from replication slot %s: %w", s.server.Slot, err)
		}
	}
}

// compare returns a gap when the slot that streams does not go on from the stored position.
// Until the stream begins, a former leader that goes on can drop the slot that was found
// and create another of its name. From then on that ends the stream.
func (s *slot) compare(ctx context.Context, stored pglogrepl.LSN) error {
	found, err := s.find(ctx)
	switch {
	case err != nil:
		return err
	case found == nil:
		return &gapError{reason: slotGone}
	}
	if reason := whyGap(s.server, 0, store.ReadWALPositionRow{Slot: s.server.Slot, AppliedLsn: stored.String()}, found); reason != "" {
		return &gapError{reason: reason}
	}
	return nil
}
