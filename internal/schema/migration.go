package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/sourcegraph/conc"

	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
)

// Lock is the id of the advisory lock that puts migrations in turn, held by the
// session: the ASCII bytes "pwschema".
const Lock int64 = 0x7077736368656d61

// lockLimits are how long a migration waits for a lock on a busy provider table.
type lockLimits struct {
	attempt time.Duration // so that not all later writers wait behind it
	total   time.Duration // of all attempts
}

var defaultLockLimits = lockLimits{attempt: 5 * time.Second, total: time.Minute}

// migration is a migration under [Lock].
type migration struct {
	conn *pgx.Conn // has the lock; it is idle while the other session changes something
	// db has one session, of the process pid, which changes the schema in all tries.
	db       *sql.DB
	pid      uint32
	activity *postgres.Activity
	limits   lockLimits
}

func newMigration(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig, limits lockLimits) (*migration, error) {
	m := &migration{conn: conn, activity: postgres.ActivityOf(config), limits: limits}
	m.db = stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, fmt.Sprintf("SET lock_timeout = '%dms'", limits.attempt.Milliseconds()))
		return err
	}))
	m.db.SetMaxOpenConns(1)
	if err := m.identify(ctx); err != nil {
		m.close()
		return nil, unusable("connect", err)
	}
	return m, nil
}

// identify connects, and finds the server's process of the session.
func (m *migration) identify(ctx context.Context) error {
	session, err := m.db.Conn(ctx)
	if err != nil {
		return err
	}
	err = session.Raw(func(driver any) error {
		m.pid = driver.(*stdlib.Conn).Conn().PgConn().PID()
		return nil
	})
	return errors.Join(err, session.Close())
}

func (m *migration) close() { _ = m.db.Close() }

func isLockTimeout(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == pgerrcode.LockNotAvailable
}

func (m *migration) exec(ctx context.Context, statements string) error {
	return m.change(ctx, func() error {
		_, err := m.db.ExecContext(ctx, statements)
		return err
	})
}

// change calls do, which sends statements on the session of the migration. When it gives a
// lock up, the error names who holds it: then the session no longer waits, so that it is
// looked for before.
func (m *migration) change(ctx context.Context, do func() error) error {
	done := make(chan struct{})
	var latest lockwait.Holders
	var looking conc.WaitGroup
	looking.Go(func() {
		ticks := time.NewTicker(m.limits.attempt / 3)
		defer ticks.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticks.C:
			}
			// Without holders the error names no session.
			if holders, err := lockwait.Of(postgres.Aside(ctx), m.conn, m.pid); err == nil && len(holders) > 0 {
				latest = holders
			}
		}
	})
	err := do()
	close(done)
	looking.Wait()
	if isLockTimeout(err) && len(latest) > 0 {
		return fmt.Errorf("it waits for %s: %w", latest, err)
	}
	return err
}
