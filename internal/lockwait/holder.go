// Package lockwait finds who holds up a session of the worker: by a lock, by a transaction
// that it has to wait for, or by an advisory lock of ours that another program has taken.
package lockwait

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/store"
)

// maxShown bounds how many holders an error names, and maxName their names.
const (
	maxShown = 3
	maxName  = 64
)

// Holder is a session, or a transaction that was prepared.
type Holder struct {
	PID                         int32 // 0 for a prepared transaction
	Role, Application, Database string
	Prepared                    string    // the prepared transaction's identifier
	Since                       time.Time // when it was prepared
}

// Of returns who holds up the session of a process, none where it waits for no lock.
func Of(ctx context.Context, db store.DBTX, pid uint32) (Holders, error) {
	rows, err := store.On(db).ListHolders(ctx, int32(pid))
	if err != nil {
		return nil, fmt.Errorf("find the sessions that block session %d: %w", pid, err)
	}
	holders := make(Holders, len(rows))
	for i, row := range rows {
		holders[i] = of(row)
	}
	return holders, nil
}

// OfLeadersLock returns who holds the lock of the current term and is no worker that
// listens, none where there is none.
func OfLeadersLock(ctx context.Context, db store.DBTX) (Holders, error) {
	rows, err := store.On(db).ListLeaderLockHolders(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the session that holds the leader's lock: %w", err)
	}
	holders := make(Holders, len(rows))
	for i, row := range rows {
		holders[i] = of(store.ListHoldersRow(row))
	}
	return holders, nil
}

func of(row store.ListHoldersRow) Holder {
	h := Holder{PID: row.Pid, Role: row.Role, Application: row.Application, Database: row.Database, Prepared: row.Prepared}
	if row.Since != nil {
		h.Since = *row.Since
	}
	return h
}

// Session describes the session of a process as a holder. Of a session that has ended only
// the process is known.
func Session(ctx context.Context, db store.DBTX, pid int32) (Holder, error) {
	rows, err := store.On(db).DescribeSession(ctx, pid)
	if err != nil {
		return Holder{}, fmt.Errorf("look at session %d: %w", pid, err)
	}
	if len(rows) == 0 {
		return Holder{PID: pid}, nil
	}
	return Holder{PID: pid, Role: rows[0].Role, Application: rows[0].Application, Database: rows[0].Database}, nil
}

// String describes the holder. Other programs have chosen its names.
func (h Holder) String() string {
	var about []string
	add := func(what, name string) {
		if name != "" {
			about = append(about, fmt.Sprintf("%s %q", what, name[:min(len(name), maxName)]))
		}
	}
	name := fmt.Sprintf("session %d", h.PID)
	if h.Prepared != "" {
		name = fmt.Sprintf("the prepared transaction %q", h.Prepared[:min(len(h.Prepared), maxName)])
	}
	add("role", h.Role)
	add("application", h.Application)
	add("database", h.Database)
	if !h.Since.IsZero() {
		about = append(about, "since "+h.Since.UTC().Format(time.RFC3339))
	}
	if len(about) == 0 {
		return name
	}
	return name + " (" + strings.Join(about, ", ") + ")"
}

// Remedy is how an operator ends the holder.
func (h Holder) Remedy() string {
	if h.Prepared != "" {
		return "COMMIT PREPARED or ROLLBACK PREPARED it in its database (pg_prepared_xacts)"
	}
	return fmt.Sprintf("SELECT pg_terminate_backend(%d) ends it", h.PID)
}

// Holders are all who hold up one session.
type Holders []Holder

// String describes them, the first with its remedy.
func (hs Holders) String() string {
	if len(hs) == 0 {
		return "an unknown session"
	}
	var list []string
	for _, h := range hs[:min(len(hs), maxShown)] {
		list = append(list, h.String())
	}
	if more := len(hs) - len(list); more > 0 {
		list = append(list, english.Plural(more, "other", ""))
	}
	return english.WordSeries(list, "and") + "; " + hs[0].Remedy()
}

// lookupTimeout bounds a look, the connection included.
const lookupTimeout = 3 * time.Second

// Lookup is [Of] on a connection of its own, for when those of the pool wait themselves.
func Lookup(ctx context.Context, config *pgxpool.Config, pid uint32) (Holders, error) {
	limited, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(limited, postgres.StatusConfig(config).ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("find the sessions that block session %d: %w", pid, err)
	}
	defer func() { _ = conn.Close(limited) }()
	return Of(limited, conn, pid)
}
