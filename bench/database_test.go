//go:build bench

package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// database is one arm's database.
type database struct {
	b    *testing.B
	name string
	conn *pgx.Conn
	ids  []string
}

func providerName(i int) string { return fmt.Sprintf("provider-%d", i) }

func providerURL(i int) string { return fmt.Sprintf("https://provider-%d.example/v1/", i) }

func driftedURL(i int) string { return fmt.Sprintf("https://drifted-%d.example/v1/", i) }

// newDatabase makes a database with the providers seeded and source installed,
// and no worker running; with source "" with the tables and nothing else of
// provwatch's.
func newDatabase(b *testing.B, name, source string) *database {
	b.Helper()
	ctx := context.Background()
	d := emptyDatabase(b, name)
	install := source
	if source == "" {
		install = "notify"
	}
	d.start(install).ready().end(syscall.SIGTERM)
	if source == "" {
		execute(b, d.conn, "DROP SCHEMA provwatch CASCADE")
	}
	// Room for new versions on each page, or chance decides which arm's updates
	// have to touch the indexes.
	execute(b, d.conn, "ALTER TABLE ai_providers SET (fillfactor = 10)")
	execute(b, d.conn, "VACUUM FULL ai_providers")
	rows, err := d.conn.Query(ctx, "SELECT id::text FROM ai_providers ORDER BY substr(name, 10)::int")
	if err != nil {
		b.Fatal(err)
	}
	if d.ids, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		b.Fatal(err)
	}

	// The arms are what they are said to be.
	want := map[string]string{"": "0 triggers, 0 publications, 0 slots", "notify": "8 triggers, 0 publications, 0 slots", "wal": "0 triggers, 1 publications, 1 slots"}[source]
	var have string
	if err := d.conn.QueryRow(ctx, `SELECT format('%s triggers, %s publications, %s slots',
		(SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'), (SELECT count(*) FROM pg_publication),
		(SELECT count(*) FROM pg_replication_slots WHERE database = current_database()))`).Scan(&have); err != nil {
		b.Fatal(err)
	}
	if have != want || len(d.ids) != *providers {
		b.Fatalf("database %s has %s and %d providers, want %s and %d", name, have, len(d.ids), want, *providers)
	}
	return d
}

// emptyDatabase makes a database without any table, which is dropped at the end
// of the benchmark.
func emptyDatabase(b *testing.B, name string) *database {
	b.Helper()
	ctx := context.Background()
	d := &database{b: b, name: name}
	admin := connect(b, "postgres")
	execute(b, admin, "CREATE DATABASE "+name)
	d.conn = connect(b, name)
	b.Cleanup(func() {
		_ = d.conn.Close(ctx)
		execute(b, admin, "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE database = '"+name+"' AND active")
		execute(b, admin, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '"+name+"'")
		execute(b, admin, "DROP DATABASE "+name+" WITH (FORCE)")
		_ = admin.Close(ctx)
	})
	return d
}

func connect(b *testing.B, name string) *pgx.Conn {
	b.Helper()
	config := server.base.Copy()
	config.Database = name
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

func execute(b *testing.B, conn *pgx.Conn, sql string, args ...any) {
	b.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		b.Fatal(err)
	}
}

// toggle is an update of a field that the canonical hash has: $1 is the id, $2
// and $3 are the URLs.
const toggle = `UPDATE ai_providers SET base_url = CASE base_url WHEN $2 THEN $3 ELSE $2 END, updated_at = now() WHERE id = $1`

// toggle changes the base URL of a provider back and forth.
func (d *database) toggle(i int) {
	d.b.Helper()
	execute(d.b, d.conn, toggle, d.ids[i], providerURL(i), driftedURL(i))
}

// arrival is a notification and when it came.
type arrival struct {
	at      time.Time
	payload string
}

// listen returns what arrives on the channel from now on, until the benchmark
// ends. All that arrives is taken, whether or not anybody asks for it: a server's
// process that cannot send what it has would hold up DROP DATABASE of others.
func (d *database) listen(channel string) <-chan arrival {
	d.b.Helper()
	conn := connect(d.b, d.name)
	execute(d.b, conn, "LISTEN "+channel)
	received, arrivals := make(chan arrival), make(chan arrival)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		defer close(received)
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			received <- arrival{time.Now(), n.Payload}
		}
	})
	done.Go(func() {
		var waiting []arrival
		for {
			var next arrival
			var out chan arrival // nil while nothing waits
			if len(waiting) > 0 {
				next, out = waiting[0], arrivals
			}
			select {
			case a, more := <-received:
				if !more {
					return
				}
				waiting = append(waiting, a)
			case out <- next:
				waiting = waiting[1:]
			}
		}
	})
	d.b.Cleanup(func() {
		cancel()
		done.Wait()
		_ = conn.Close(context.Background())
	})
	return arrivals
}

// drain drops what has arrived, until nothing more comes for a moment.
func drain(arrivals <-chan arrival) {
	for {
		select {
		case <-arrivals:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// await waits for a payload that contains the text.
func await(b *testing.B, arrivals <-chan arrival, text string) time.Time {
	b.Helper()
	timeout := time.After(patience)
	for {
		select {
		case a := <-arrivals:
			if strings.Contains(a.payload, text) {
				return a.at
			}
		case <-timeout:
			b.Fatalf("nothing with %q arrived within %s", text, patience)
		}
	}
}

// dsn returns how to connect to the database, as libpq's keywords.
func (d *database) dsn() string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", server.base.Host, server.base.Port, server.base.User, d.name)
}
