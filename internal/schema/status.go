package schema

import (
	"context"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"

	"provwatch/internal/remedy"
	"provwatch/internal/store"
	sqlfiles "provwatch/sql"
)

const (
	// providerTables is the version of the migration that makes the gateway's
	// own tables. It is left out where another program has made them.
	providerTables = 1
	// columnLists is the server version that has column lists of publications.
	columnLists = 150000
	// triggers is how many triggers sql/statements/triggers.sql makes.
	triggers = 8
)

// Needs says what the worker needs beside the tables: it is notified by triggers,
// or reads the WAL through a publication, and its role has the privileges for a
// use, zero for none in particular.
type Needs struct {
	Triggers    bool
	Publication bool
	Use         Use
	// Migrated is set by a worker that runs: its boot has migrated. Migrations that are pending
	// since then are no longer applied: the schema was dropped, or a restore is under way,
	// which would find in its place what they make.
	Migrated bool
	// Existing is set by a command of an operator: a schema that is there is brought up to date,
	// and none is made. The database of a command can be the wrong one.
	Existing bool
	// DryRun is set by a command that migrates nothing, whatever --migrate is.
	DryRun bool
}

// otherwise continues the proposal to migrate, for a worker with these needs.
func (n Needs) otherwise() string {
	switch {
	case n.DryRun:
		return ""
	case n.Use&Observing != 0: // it never migrates
		return " as the owner"
	}
	return ", or use --migrate=auto"
}

// Status says what the database has and lacks.
type Status struct {
	// Foreign reports whether another program made the provider tables.
	Foreign bool `json:"foreign_provider_tables"`
	// Applied and Pending are migration versions.
	Applied []int64 `json:"applied"`
	Pending []int64 `json:"pending"`
	// Triggers reports whether all our triggers on the provider tables exist and fire in
	// every session. A role that does not own the tables needs only those it can create.
	// SomeTriggers reports whether any exists.
	Triggers     bool `json:"triggers"`
	SomeTriggers bool `json:"some_triggers"`
	// Publication reports whether the publication has both provider tables.
	Publication bool `json:"publication"`

	ownSchema, readOnly, standby bool
	columnLists                  bool // the server knows them
}

// Lacks returns in words what must be done for what the worker needs.
func (s Status) Lacks(needs Needs) []string {
	var todo []string
	if len(s.Pending) > 0 {
		todo = append(todo, fmt.Sprintf("migrations %v", s.Pending))
	}
	if needs.Triggers && !s.Triggers {
		todo = append(todo, "triggers on the provider tables")
	}
	if needs.Publication && !s.Publication {
		todo = append(todo, "the publication of the provider tables")
	}
	return todo
}

// Listenable makes sure that sessions can LISTEN, as they cannot on a hot
// standby: the error is an [*UnusableError] there.
func Listenable(ctx context.Context, pool *pgxpool.Pool) error {
	found, err := store.On(pool).InspectSchema(ctx)
	switch {
	case err != nil:
		return unusable("look at it", err)
	case found.InRecovery:
		return errStandby
	default:
		return nil
	}
}

// refuse returns why the needs are not met and must not be, nil where they can be.
func (s Status) refuse(needs Needs) error {
	if needs.Existing && !s.ownSchema {
		return &UnusableError{Err: remedy.Problem("the database has no schema provwatch, which this command does not make; check that it is the right database, "+
			"and start a worker on it or run ", remedy.Run("migrate"))}
	}
	if !needs.Migrated || len(s.Pending) == 0 {
		return nil
	}
	return &UnusableError{Reason: fmt.Sprintf("migrations %v are pending, and the worker has run with them: the schema provwatch was dropped, or is being restored; "+
		"restore it, or restart the worker, whose boot migrates", s.Pending)}
}

// writable says why nothing can be written to the database, if that is so.
func (s Status) writable() error {
	switch {
	case s.standby:
		return errStandby
	case s.readOnly:
		return &UnusableError{Reason: "it is read-only; connect to the primary, with a role that may write"}
	default:
		return nil
	}
}

// Inspect looks at the schema and changes nothing.
func Inspect(ctx context.Context, config *pgx.ConnConfig) (Status, error) {
	var status Status
	err := withConn(ctx, config, func(conn *pgx.Conn) (err error) {
		status, err = inspect(ctx, conn)
		return err
	})
	return status, err
}

// inspect is [look] once the tables are located.
func inspect(ctx context.Context, db store.DBTX) (Status, error) {
	if _, err := Locate(ctx, db); err != nil {
		return Status{}, err
	}
	return look(ctx, db)
}

func look(ctx context.Context, db store.DBTX) (Status, error) {
	queries := store.On(db)
	first, err := queries.InspectSchema(ctx)
	if err != nil {
		return Status{}, unusable("look at it", err)
	}
	// The schema may have come since the tables were located, and so not have been
	// looked at.
	if first.OwnSchema {
		if err := refuseStrangers(ctx, db); err != nil {
			return Status{}, err
		}
	}
	// Another worker may be migrating. What a migration has made is looked for
	// after the list of migrations is read, so that it is there.
	details, err := queries.InspectDetails(ctx, first.Migrations)
	if err != nil {
		return Status{}, unusable("look at it", err)
	}
	found := details.Schema
	// goose records its start as version 0.
	applied := slices.DeleteFunc(details.Applied, func(v int64) bool { return v == 0 })
	status := Status{Applied: applied, ownSchema: found.OwnSchema, readOnly: found.ReadOnly, standby: found.InRecovery, columnLists: found.ServerVersion >= columnLists}
	ours := slices.Contains(status.Applied, providerTables)
	status.Foreign = found.Providers && !ours

	switch {
	case found.Providers != found.ProviderKeys:
		return Status{}, &UnusableError{Reason: "only one of the tables ai_providers and ai_provider_keys is there; " +
			"check the search_path, or finish the migration that created or dropped the other"}
	case !found.Providers && len(status.Applied) > 0:
		return Status{}, &UnusableError{Reason: "the tables ai_providers and ai_provider_keys do not exist, or are not on the search_path; " +
			"restore them, or drop the schema provwatch to start over"}
	case found.Providers:
		if err := checkColumns(details); err != nil {
			return Status{}, err
		}
		status.Triggers, status.SomeTriggers = details.Triggers.Usable >= triggers, details.Triggers.Found > 0
		status.Publication = details.Publication
	}

	all, err := versions()
	if err != nil {
		return Status{}, err
	}
	for _, v := range all {
		if !slices.Contains(status.Applied, v) && !(status.Foreign && v == providerTables) {
			status.Pending = append(status.Pending, v)
		}
	}
	return status, nil
}

// versions returns the versions of the embedded migrations in ascending order.
func versions() ([]int64, error) {
	files, err := fs.Glob(sqlfiles.Migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	list := make([]int64, len(files))
	for i, file := range files {
		if list[i], err = goose.NumericComponent(file); err != nil {
			return nil, err
		}
	}
	slices.Sort(list)
	return list, nil
}
