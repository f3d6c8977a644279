//go:build soak

package soak

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// leaderLock finds the sessions that hold the advisory lock of the current term, "pwld".
const leaderLock = `SELECT clock_timestamp(), l.pid, coalesce(a.application_name, '')
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND l.classid = 1886874724 AND l.objid::bigint = (SELECT term % 2147483648 FROM provwatch.alert_counter)`

// connected calls do with a connection again and again, until ctx ends.
func (w *world) connected(ctx context.Context, application string, do func(*pgx.Conn) error) {
	w.connectedTo(ctx, w.url, application, do)
}

// connectedTo is connected to where the database is then, or to another one.
func (w *world) connectedTo(ctx context.Context, url func() string, application string, do func(*pgx.Conn) error) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, url()+"&application_name="+application)
		if err == nil {
			_ = do(conn)
			closing, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = conn.Close(closing)
			cancel()
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// decode feeds the checker.
func (w *world) decode(ctx context.Context) {
	w.connected(ctx, "soak-decoder", func(conn *pgx.Conn) error {
		for {
			n, err := w.decodeSome(ctx, conn)
			if err != nil {
				return err
			}
			if n <= 100 && !pause(ctx, 250*time.Millisecond) {
				return ctx.Err()
			}
		}
	})
}

// decodeSome reads the history from where the checker is. What was read is
// released after it, so that a connection lost in between loses nothing. It returns how
// many transactions there were.
func (w *world) decodeSome(ctx context.Context, conn *pgx.Conn) (n int, err error) {
	if _, err := conn.Exec(ctx, "SET timezone = 'UTC'"); err != nil {
		return 0, err
	}
	rows, err := conn.Query(ctx, `SELECT lsn::text, data FROM pg_logical_slot_peek_changes('soak_history', NULL, 2000, 'include-timestamp', '1', 'skip-empty-xacts', '1')`)
	if err != nil {
		return 0, err
	}
	var d decoder
	var done []transaction
	var lsn, data string
	if _, err := pgx.ForEachRow(rows, []any{&lsn, &data}, func() error {
		at, err := parsePosition(lsn)
		if err != nil {
			return err
		}
		t, err := d.decode(at, data)
		if err != nil {
			w.violate(ruleHistory, "%v", err)
		} else if t != nil {
			done = append(done, *t)
		}
		return nil
	}); err != nil || len(done) == 0 {
		return 0, err
	}
	w.mu.Lock()
	last := done[len(done)-1].end
	for _, t := range done {
		if t.end > w.decoded {
			w.decoded = t.end
			w.checker.add(t)
		}
	}
	w.mu.Unlock()
	_, err = conn.Exec(ctx, "SELECT pg_replication_slot_advance('soak_history', $1::text::pg_lsn)", last.String())
	return len(done), err
}

// drain waits until the checker has all that was committed so far.
func (w *world) drain() {
	conn, err := pgx.Connect(context.Background(), w.url())
	if err != nil {
		w.violate(ruleHistory, "%v", err)
		return
	}
	defer func() { _ = conn.Close(context.Background()) }()
	id := "00000000-0000-4000-8000-000000000000"
	if _, err := conn.Exec(context.Background(), "INSERT INTO soak.history (id, op, providers) VALUES ($1, 'end', '')", id); err != nil {
		w.violate(ruleHistory, "%v", err)
		return
	}
	w.eventually(time.Minute, "all that was committed is decoded", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.checker.labels[id]
	})
}

// sampleLeaders looks at who holds the leader's lock.
func (w *world) sampleLeaders(ctx context.Context) {
	w.connected(ctx, "soak-sampler", func(conn *pgx.Conn) error {
		for {
			rows, err := conn.Query(ctx, leaderLock)
			if err != nil {
				return err
			}
			holders := map[int]string{}
			var at time.Time
			var pid int
			var application string
			if _, err := pgx.ForEachRow(rows, []any{&at, &pid, &application}, func() error {
				holders[pid] = strings.TrimSuffix(application, "-listener")
				return nil
			}); err != nil {
				return err
			}
			w.mu.Lock()
			w.leaders.sample(w.real(at), holders)
			w.mu.Unlock()
			if !pause(ctx, 50*time.Millisecond) {
				return ctx.Err()
			}
		}
	})
}

// listen gathers notifications, session by session.
func (w *world) listen(ctx context.Context) {
	w.connected(ctx, "soak-listener", func(conn *pgx.Conn) error {
		for _, channel := range []string{driftChannel, seededChannel, auditChannel, statusChannel} {
			if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
				return err
			}
		}
		var text string
		if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
			return err
		}
		from, err := parsePosition(text)
		if err != nil {
			return err
		}
		w.mu.Lock()
		n := len(w.epochs)
		w.epochs = append(w.epochs, epoch{from: from})
		w.mu.Unlock()
		for {
			note, err := conn.WaitForNotification(ctx)
			w.mu.Lock()
			if err != nil {
				w.epochs[n].last = ctx.Err() != nil
				w.mu.Unlock()
				return err
			}
			w.epochs[n].notices = append(w.epochs[n].notices, notice{note.Channel, note.Payload})
			w.emitted.WriteString(note.Payload + "\n")
			w.mu.Unlock()
		}
	})
}
