package schema

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/postgres"
	"provwatch/internal/remedy"
	"provwatch/internal/retry"
	"provwatch/internal/store"
	sqlfiles "provwatch/sql"
)

// Migrate brings the schema up to date, under [Lock], and returns what it found
// and what it left. An up-to-date schema is only looked at.
func Migrate(ctx context.Context, config *pgx.ConnConfig, needs Needs) (before, after Status, err error) {
	return migrateWithin(ctx, config, needs, defaultLockLimits)
}

func migrateWithin(ctx context.Context, config *pgx.ConnConfig, needs Needs, limits lockLimits) (before, after Status, err error) {
	err = withConn(ctx, config, func(conn *pgx.Conn) error {
		before, after, err = migrateUnderLock(ctx, conn, config, needs, limits)
		return err
	})
	return before, after, err
}

func migrateUnderLock(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig, needs Needs, limits lockLimits) (before, after Status, err error) {
	if before, err = inspect(ctx, conn); err != nil || len(before.Lacks(needs)) == 0 {
		return before, before, err
	}
	if err := store.On(conn).LockMigration(ctx, Lock); err != nil {
		return before, before, unusable("take the migration lock", err)
	}
	// The lock ends with the session.
	m, err := newMigration(ctx, conn, config, limits)
	if err != nil {
		return before, before, err
	}
	defer m.close()
	if err := m.migrateOnceUnlocked(ctx, before.Lacks(needs), needs); err != nil {
		return before, before, err
	}
	after, err = inspect(ctx, conn)
	return before, after, err
}

// migrateOnceUnlocked retries for a while when a transaction of the gateway locks a provider
// table. All attempts are one wait for what the schema lacks.
func (m *migration) migrateOnceUnlocked(ctx context.Context, lacks []string, needs Needs) (err error) {
	defer m.activity.BeginRetried("the migration ("+strings.Join(lacks, ", ")+")", m.pid)()
	for attempt := range (retry.Policy{Within: m.limits.total}).Attempts(ctx) {
		if err = m.migrate(ctx, needs); !isLockTimeout(err) {
			return err
		}
		attempt.Failed()
	}
	return cmp.Or(context.Cause(ctx), err)
}

// migrate changes what the schema lacks.
func (m *migration) migrate(ctx context.Context, needs Needs) error {
	// Another worker may have migrated while this one waited for the lock.
	tables, err := Locate(ctx, m.conn)
	if err != nil {
		return err
	}
	status, err := look(ctx, m.conn)
	if err != nil {
		return err
	}
	if err := status.writable(); err != nil {
		return err
	}
	if err := status.refuse(needs); err != nil {
		return err
	}
	if err := m.refuseForeignHome(ctx, status, tables); err != nil {
		return err
	}
	if !status.ownSchema {
		if err := m.createSchema(ctx); err != nil {
			return err
		}
	}
	if len(status.Pending) > 0 {
		if err := m.applyPending(ctx, status, tables); err != nil {
			return err
		}
	}
	if needs.Triggers && !status.Triggers {
		if err := m.createTriggers(ctx, tables); err != nil {
			return err
		}
	}
	if needs.Publication && !status.Publication {
		return m.createPublication(ctx, status, tables)
	}
	return nil
}

// refuseForeignHome fails where the provider tables would be made in a schema whose owner
// could replace them.
func (m *migration) refuseForeignHome(ctx context.Context, status Status, tables *postgres.Tables) error {
	if status.Foreign || !slices.Contains(status.Pending, providerTables) {
		return nil
	}
	owners, err := store.On(m.conn).ListStrangersAtHome(ctx)
	if err != nil {
		return unusable("look at the owner of the provider tables' schema", err)
	}
	if len(owners) > 0 {
		return &UnusableError{Reason: fmt.Sprintf("the provider tables would be made in the schema %q, whose owner %q is neither this role nor the owner of the database, "+
			"and could replace them; set the search_path to another schema, or let this role own it", tables.Schema, owners[0])}
	}
	return nil
}

func (m *migration) createSchema(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		queries := store.On(tx)
		if err := queries.CreateSchema(ctx); err != nil {
			return err
		}
		return queries.CloseSchema(ctx)
	})
	if err != nil {
		return unusableByOthers("create the schema provwatch", err, "the role needs CREATE on the database", remedy.Run("migrate"))
	}
	return nil
}

func (m *migration) applyPending(ctx context.Context, status Status, tables *postgres.Tables) error {
	provider, err := newProvider(m.db, status, tables)
	if err != nil {
		return err
	}
	err = m.change(ctx, func() error {
		_, err := provider.Up(ctx)
		return err
	})
	if err != nil {
		return unusableByOthers("migrate", err, "the role needs CREATE on a schema of its search_path and must own the schema provwatch", remedy.Run("migrate"))
	}
	return nil
}

func (m *migration) createTriggers(ctx context.Context, tables *postgres.Tables) error {
	statements := sqlfiles.Triggers
	found, err := store.On(m.conn).CountTriggers(ctx)
	if err != nil {
		return unusable("look at the triggers", err)
	}
	if found.Owned {
		statements += sqlfiles.TriggersAlways
	}
	if err := m.exec(ctx, tables.Qualify(statements)); err != nil {
		return unusableByOthers("create the triggers on the provider tables", err,
			"the role must own them, or have TRIGGER on them, and have EXECUTE on provwatch.notify_change", remedy.Run("migrate", "--source=notify"))
	}
	return nil
}

func (m *migration) createPublication(ctx context.Context, status Status, tables *postgres.Tables) error {
	publication := sqlfiles.Publication
	if !status.columnLists {
		publication = sqlfiles.Publication14
	}
	if err := m.exec(ctx, tables.Qualify(publication)); err != nil {
		return unusableByOthers("create the publication of the provider tables"+ifUnlogged(err), err,
			"the role must own them and have CREATE on the database", remedy.Run("migrate", "--source=wal"))
	}
	return nil
}
