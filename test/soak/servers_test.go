//go:build soak

package soak

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// What the nemesis does to the database's server, which it alone starts and stops.

// diskSize is the size of the disk that the data of a server are on. They take less than
// half of it while it is not filled.
const diskSize = "1g"

// startServer starts the server, with a database, few connections, a disk of its own, and
// a clock that can be moved.
func (w *world) startServer() {
	w.origin = time.Now().Add(-5 * time.Minute)
	o := pgtest.Options{DiskSize: diskSize, Settings: map[string]string{"max_connections": "100", "max_wal_size": "64MB", "min_wal_size": "32MB"}}
	if w.clock = newServerClock(w); w.clock != nil {
		o.BinDir = w.clock.binDir
	}
	w.cluster = pgtest.NewClusterWith(w.t, o)
	url := w.cluster.NewDatabase(w.t)
	w.address.Store(&url)
}

// freezeSession stops the process of one session of the workers' for a while: the one
// that listens and leads, the one that streams, or one of a pool.
func (w *world) freezeSession(ctx context.Context, f fault, until func(time.Duration, func())) bool {
	query := map[string]string{
		"freeze-listener":  "SELECT l.pid FROM (" + leaderLock + ") AS l",
		"freeze-walsender": "SELECT active_pid FROM pg_replication_slots WHERE active AND slot_name LIKE 'provwatch%'",
		"freeze-pool": fmt.Sprintf(`SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^w[0-9]+[.][0-9]+$'
			ORDER BY md5(pid::text || '%d') LIMIT 1`, f.n),
	}[f.kind]
	conn, err := pgx.Connect(ctx, w.url()+"&application_name=soak-nemesis")
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var pid int
	cluster := w.cluster
	if conn.QueryRow(ctx, query).Scan(&pid) != nil || !cluster.FreezeSession(pid) {
		return false
	}
	until(f.length, func() { cluster.Thaw(pid) })
	return true
}

// useUp takes every connection that is free, for a while.
func (w *world) useUp(ctx context.Context, length time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, w.url()+"&application_name=soak-connections")
		if err != nil {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		defer func() { _ = conn.Close(context.Background()) }()
	}
}

// fillDisk leaves no room on the server's disk for a while. The server may end by
// itself, and is started again then.
func (w *world) fillDisk(ctx context.Context, length time.Duration) bool {
	empty, filled := w.cluster.FillDisk(w.t)
	if !filled {
		return false
	}
	pause(ctx, length)
	empty()
	w.cluster.Revive(w.t)
	return true
}

// failOver makes a standby, and moves the database to it: in order, or after the primary
// was killed. So that each commit is in the history, writers wait meanwhile, and the
// standby has what was committed; workers meet servers that end and do not answer.
func (w *world) failOver(ctx context.Context, clean bool) bool {
	old := w.cluster
	step := func(done string) {
		if *keep != "" {
			fmt.Printf("%s soak %s: failover: %s\n", time.Now().Format("15:04:05.000"), w.source, done)
		}
	}
	standby := old.NewStreamingStandby(w.t)
	step("the standby streams")
	w.waitForSlot(ctx, standby)
	step("the slot is synchronised, or not")
	w.moving.Lock()
	defer w.moving.Unlock()
	for _, p := range w.workers {
		p.plug.Lock()
		defer p.plug.Unlock()
		p.proxy.Stop()
	}
	step("the writers wait")
	w.drainFor(standby, clean)
	step("the history has everything")
	if clean {
		old.Stop(w.t, "fast")
	} else {
		old.Kill(w.t)
	}
	step("the primary has ended")
	standby.Promote(w.t)
	step("the standby is promoted")
	w.cluster = standby
	url := standby.DatabaseURL(w.url())
	w.address.Store(&url)
	w.beginHistory()
	for _, p := range w.workers {
		p.proxy.Upstream = standby.TCPAddr()
		if err := p.proxy.Start(); err != nil {
			w.violate(ruleHistory, "the proxy of %s does not start again: %v", p.name, err)
		}
	}
	return true
}

// waitForSlot waits a while until the standby has synchronised the slot of the workers.
func (w *world) waitForSlot(ctx context.Context, standby *pgtest.Cluster) {
	if w.source == "notify" || !standby.Synchronises() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	w.connectedTo(ctx, func() string { return standby.DatabaseURL(w.url()) }, "soak-nemesis", func(conn *pgx.Conn) error {
		for {
			var there bool
			if err := conn.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_replication_slots WHERE slot_name LIKE 'provwatch%' AND synced AND NOT temporary").Scan(&there); err != nil {
				return err
			}
			if there {
				cancel()
			}
			w.exec(ctx, "CHECKPOINT")
			if !pause(ctx, 200*time.Millisecond) {
				return ctx.Err()
			}
		}
	})
}

// drainFor ends all sessions, and waits until the history has all that was committed, and
// the standby too unless the server stops in order. Writers wait, and workers cannot connect.
func (w *world) drainFor(standby *pgtest.Cluster, clean bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	id := "00000000-0000-4000-8000-" + strconv.FormatInt(time.Now().UnixNano()%1e12+1e12, 10)[1:]
	drained := false
	w.connected(ctx, "soak-failover", func(conn *pgx.Conn) error {
		for left := 1; left > 0; {
			if err := conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()
				AND application_name NOT IN ('soak-decoder', 'soak-sampler', 'soak-listener')`).Scan(&left); err != nil {
				return err
			}
			pause(ctx, 20*time.Millisecond)
		}
		if _, err := conn.Exec(ctx, "INSERT INTO soak.history (id, op, providers) VALUES ($1, 'fail-over', '') ON CONFLICT DO NOTHING", id); err != nil {
			return err
		}
		var end string
		if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&end); err != nil {
			return err
		}
		for {
			w.mu.Lock()
			decoded := w.checker.labels[id]
			w.mu.Unlock()
			var received bool
			err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = 'walreceiver' AND flush_lsn >= $1::text::pg_lsn)`, end).Scan(&received)
			if err != nil {
				return err
			}
			if decoded && received {
				drained = true
				cancel()
				return nil
			}
			if !pause(ctx, 20*time.Millisecond) {
				return ctx.Err()
			}
		}
	})
	if !drained {
		w.violate(ruleHistory, "the standby, or the history, does not have all that was committed")
	}
}

// beginHistory makes the slot anew by which the history is decoded, before anything is
// written to the server. It counts the slot of the workers as dropped where it is not
// there.
func (w *world) beginHistory() {
	conn, err := pgx.Connect(context.Background(), w.url())
	require.NoError(w.t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(context.Background(), "SELECT pg_create_logical_replication_slot('soak_history', 'test_decoding')")
	require.NoError(w.t, err)
	var there bool
	require.NoError(w.t, conn.QueryRow(context.Background(), "SELECT count(*) > 0 FROM pg_replication_slots WHERE slot_name LIKE 'provwatch%'").Scan(&there))
	w.mu.Lock()
	defer w.mu.Unlock()
	if !there {
		w.dropped++
	} else if w.source != "notify" {
		w.kept++
	}
}

// real returns what a reading of the server's clock is without its jumps, which are of
// whole hours, while a run is shorter than one.
func (w *world) real(t time.Time) time.Time {
	since := t.Sub(w.origin) % time.Hour
	if since < 0 {
		since += time.Hour
	}
	return w.origin.Add(since)
}
