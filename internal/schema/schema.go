// Package schema brings the database's schema to what the worker needs, and
// reports whether it is there (docs/specification.md, section 3).
package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	sqlfiles "provwatch/sql"

	"provwatch/internal/postgres"
	"provwatch/internal/store"
)

// Lock is the id of the advisory lock that puts migrations in turn, held by the
// session: the ASCII bytes "pwschema".
const Lock int64 = 0x7077736368656d61

// Mode says what to do about a schema that is not up to date.
type Mode string

// The modes of --migrate.
const (
	Auto  Mode = "auto"  // bring it up to date
	Check Mode = "check" // fail if it is not up to date
	Off   Mode = "off"   // fail only if it cannot be used at all
)

const (
	// versionTable is where goose keeps the versions applied.
	versionTable = "provwatch.schema_migrations"
	// providerTables is the version of the migration that makes the gateway's
	// own tables. It is left out where another program has made them.
	providerTables = 1
	// columnLists is the server version that has column lists of publications.
	columnLists = 150000
	// triggers is how many triggers sql/statements/triggers.sql makes.
	triggers = 8
	// removalLockTimeout keeps the removal of triggers from making writers wait behind it.
	removalLockTimeout = "100ms"
)

// UnusableError says that the schema is not what the worker needs; exit code 4.
type UnusableError struct {
	Reason string // includes the remedy
	Err    error  // may be nil
}

func (e *UnusableError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("the database's schema cannot be used: %s: %v", e.Reason, e.Err)
	}
	return "the database's schema cannot be used: " + e.Reason
}

func (e *UnusableError) Unwrap() error { return e.Err }

// Needs says what the worker needs beside the tables: it is notified by triggers,
// or reads the WAL through a publication, and its role has the privileges for a
// use, zero for none in particular.
type Needs struct {
	Triggers    bool
	Publication bool
	Use         Use
	// CommandFlags follow each command of the program in messages: those that select
	// a target of --config, each after a space.
	CommandFlags string
}

// Status says what the database has and lacks.
type Status struct {
	// Foreign reports whether another program made the provider tables.
	Foreign bool `json:"foreign_provider_tables"`
	// Applied and Pending are migration versions.
	Applied []int64 `json:"applied"`
	Pending []int64 `json:"pending"`
	// Triggers reports whether all our triggers on the provider tables are there
	// and fire in every session, or as far as a role that does not own the tables can
	// make them. SomeTriggers reports whether any is there.
	Triggers     bool `json:"triggers"`
	SomeTriggers bool `json:"some_triggers"`
	// Publication reports whether the publication has both provider tables.
	Publication bool `json:"publication"`

	ownSchema, readOnly, standby bool
	columnLists                  bool // the server knows them
}

// Lacks returns what is to be done, in words, for what the worker needs.
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

// Ensure does what mode says, and then makes sure of the role's privileges. The
// schema is looked at through the pool; what is migrated is so by a connection of
// its own, which ends with its locks. The error is an [*UnusableError], or ctx's
// own.
func Ensure(ctx context.Context, pool *pgxpool.Pool, mode Mode, needs Needs, logger *slog.Logger) error {
	if _, err := Locate(ctx, pool); err != nil {
		return err
	}
	found, err := findLacking(ctx, pool, needs.Use)
	if err != nil {
		return unusable("use it", err)
	}
	if found.blind {
		return found.err()
	}
	status, err := look(ctx, pool)
	if err != nil {
		return err
	}
	if err := status.writable(); err != nil {
		return err
	}
	todo := status.Lacks(needs)
	if mode == Auto && len(todo) > 0 {
		if err := migrateAndLog(ctx, pool.Config().ConnConfig, needs, logger); err != nil {
			return err
		}
		if found, err = findLacking(ctx, pool, needs.Use); err != nil {
			return unusable("use it", err)
		}
		return found.err()
	}
	switch {
	case len(todo) == 0:
	case mode == Check:
		return &UnusableError{Reason: fmt.Sprintf("it is not up to date (%s); run \"worker migrate%s\", or use --migrate=auto", strings.Join(todo, ", "), needs.CommandFlags)}
	case len(status.Pending) > 0:
		return &UnusableError{Reason: fmt.Sprintf("migrations %v are pending and --migrate=off leaves them so; run \"worker migrate%s\"", status.Pending, needs.CommandFlags)}
	case needs.Publication && !status.Publication:
		return &UnusableError{Reason: "the publication of the provider tables is missing and --migrate=off leaves it so; run \"worker migrate" + needs.CommandFlags + "\""}
	case needs.Triggers && !status.Triggers:
		logger.WarnContext(ctx, "triggers on the provider tables are missing: changes are seen within 45 s, or when another program "+
			"notifies ai_providers_changed", "remedy", "run \"worker migrate"+needs.CommandFlags+"\"")
	}
	return found.err()
}

func migrateAndLog(ctx context.Context, config *pgx.ConnConfig, needs Needs, logger *slog.Logger) error {
	before, after, err := Migrate(ctx, config, needs)
	if err != nil {
		return err
	}
	// Nothing, when another worker was faster.
	if done := before.Lacks(needs); len(done) > 0 {
		logger.InfoContext(ctx, "schema migrated", "done", strings.Join(done, ", "), "foreign_provider_tables", after.Foreign)
	}
	return nil
}

var errStandby = &UnusableError{Reason: "the server is a standby, which is read-only; connect to the primary"}

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

// IsMissing reports whether a table, or the schema that it is in, does not exist.
func IsMissing(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == pgerrcode.UndefinedTable || pg.Code == pgerrcode.InvalidSchemaName)
}

// IsGone reports whether err is that a table does not exist because the database
// has nothing of ours, as after it was dropped and made again.
func IsGone(ctx context.Context, db store.DBTX, err error) bool {
	if !IsMissing(err) {
		return false
	}
	objects, err := store.On(db).InspectSchema(ctx)
	return err == nil && !objects.OwnSchema
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
	if err := m.untilUnlocked(ctx, before.Lacks(needs), func() error { return m.migrate(ctx, needs) }); err != nil {
		return before, before, err
	}
	after, err = inspect(ctx, conn)
	return before, after, err
}

// migrate changes what the schema lacks.
func (m *migration) migrate(ctx context.Context, needs Needs) error {
	conn := m.conn
	// Another worker may have migrated while this one waited for the lock.
	tables, err := Locate(ctx, conn)
	if err != nil {
		return err
	}
	status, err := look(ctx, conn)
	if err != nil {
		return err
	}
	if err := status.writable(); err != nil {
		return err
	}
	if !status.Foreign && slices.Contains(status.Pending, providerTables) {
		owners, err := store.On(conn).ListStrangersAtHome(ctx)
		if err != nil {
			return unusable("look at the owner of the provider tables' schema", err)
		}
		if len(owners) > 0 {
			return &UnusableError{Reason: fmt.Sprintf("the provider tables would be made in the schema %q, whose owner %q is neither this role nor the owner of the database, "+
				"and could replace them; set the search_path to another schema, or let this role own it", tables.Schema, owners[0])}
		}
	}
	if !status.ownSchema {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			queries := store.On(tx)
			if err := queries.CreateSchema(ctx); err != nil {
				return err
			}
			return queries.CloseSchema(ctx)
		})
		if err != nil {
			return unusable("create the schema provwatch"+ifDenied(err, "the role needs CREATE on the database", needs.CommandFlags), err)
		}
	}
	if len(status.Pending) > 0 {
		provider, err := newProvider(m.db, status, tables)
		if err != nil {
			return err
		}
		err = m.change(ctx, func() error {
			_, err := provider.Up(ctx)
			return err
		})
		if err != nil {
			return unusable("migrate"+ifDenied(err, "the role needs CREATE on a schema of its search_path and must own the schema provwatch", needs.CommandFlags), err)
		}
	}
	if needs.Triggers && !status.Triggers {
		statements := sqlfiles.Triggers
		found, err := store.On(conn).CountTriggers(ctx)
		if err != nil {
			return unusable("look at the triggers", err)
		}
		if found.Owned {
			statements += sqlfiles.TriggersAlways
		}
		if err := m.exec(ctx, tables.Qualify(statements)); err != nil {
			return unusable("create the triggers on the provider tables"+ifDenied(err, "the role must own them, or have TRIGGER on them, and have EXECUTE on provwatch.notify_change", needs.CommandFlags+" --source=notify"), err)
		}
	}
	if needs.Publication && !status.Publication {
		publication := sqlfiles.Publication
		if !status.columnLists {
			publication = sqlfiles.Publication14
		}
		if err := m.exec(ctx, tables.Qualify(publication)); err != nil {
			return unusable("create the publication of the provider tables"+ifUnlogged(err)+
				ifDenied(err, "the role must own them and have CREATE on the database", needs.CommandFlags+" --source=wal"), err)
		}
	}
	return nil
}

// TriggerState says whether our triggers notify of the changes to the provider tables.
type TriggerState int

// The states of our triggers.
const (
	TriggersMissing TriggerState = iota // not all are there and enabled; a table that is dropped and created again has none
	TriggersPartial                     // all are there, and some do not fire with session_replication_role = replica
	TriggersAlways                      // all fire in every session
)

// FindTriggers returns the state of our triggers.
func FindTriggers(ctx context.Context, pool *pgxpool.Pool) (TriggerState, error) {
	count, err := store.On(pool).CountTriggers(ctx)
	switch {
	case err != nil:
		return TriggersMissing, unusable("look at the triggers", err)
	case count.Always >= triggers:
		return TriggersAlways, nil
	case count.Usable >= triggers:
		return TriggersPartial, nil
	}
	return TriggersMissing, nil
}

// RemoveTriggers removes our triggers from the provider tables, which the WAL
// source does not need. Removing one needs the whole table for itself, and while
// it waits for that everybody else waits behind it: it gives up soon, and is to
// be tried again later. Triggers that stay do no harm but cost writers a little.
func RemoveTriggers(ctx context.Context, pool *pgxpool.Pool) error {
	count, err := store.On(pool).CountTriggers(ctx)
	if err != nil {
		return unusable("look at the triggers", err)
	}
	if count.Found == 0 {
		return nil
	}
	return withConn(ctx, pool.Config().ConnConfig, func(conn *pgx.Conn) error {
		if _, err := store.Gateway(conn).Exec(ctx, "SET lock_timeout = '"+removalLockTimeout+"'; "+sqlfiles.DropTriggers); err != nil {
			return fmt.Errorf("remove the triggers on the provider tables: %w", err)
		}
		return nil
	})
}

// DropPublication drops the publication, which makes updates of the provider
// tables fail once their replica identity is another than their id.
func DropPublication(ctx context.Context, config *pgx.ConnConfig) error {
	return withConn(ctx, config, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, sqlfiles.DropPublication); err != nil {
			return fmt.Errorf("drop the publication: %w", err)
		}
		return nil
	})
}

func newProvider(db *sql.DB, status Status, tables *postgres.Tables) (*goose.Provider, error) {
	versions, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return nil, err
	}
	migrations, err := fs.Sub(sqlfiles.Migrations, "migrations")
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithStore(versions), goose.WithDisableGlobalRegistry(true)}
	if status.Foreign {
		options = append(options, goose.WithExcludeVersions([]int64{providerTables}))
	}
	return goose.NewProvider(database.DialectCustom, db, qualified{migrations, tables}, options...)
}

// qualified is a folder of SQL files in which the provider tables have their schema.
type qualified struct {
	fs.FS
	tables *postgres.Tables
}

func (q qualified) Open(name string) (fs.File, error) {
	file, err := q.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	text, err := io.ReadAll(file)
	return qualifiedFile{file, strings.NewReader(q.tables.Qualify(string(text)))}, err
}

type qualifiedFile struct {
	fs.File
	text *strings.Reader
}

func (f qualifiedFile) Read(p []byte) (int, error) { return f.text.Read(p) }

// Locate looks up where the provider tables are, for all statements that follow. It
// refuses provider tables in several schemas of the search path, what is no ordinary
// table in their place, and a schema provwatch that other roles may have planted something in. The error is an
// [*UnusableError], or ctx's own.
func Locate(ctx context.Context, db store.DBTX) (*postgres.Tables, error) {
	tables, err := postgres.Locate(ctx, db)
	var ambiguous *postgres.AmbiguousTablesError
	var kind *postgres.TableKindError
	switch {
	case errors.As(err, &ambiguous):
		return nil, &UnusableError{Reason: ambiguous.Error()}
	case errors.As(err, &kind):
		return nil, &UnusableError{Reason: kind.Error()}
	case err != nil:
		return nil, unusable("find the provider tables", err)
	case tables.Schema == "":
		return nil, &UnusableError{Reason: "the search_path names no schema, so that there is no place for the gateway's tables; set it for the role"}
	}
	return tables, refuseStrangers(ctx, db)
}

// refuseStrangers fails where others could have planted something in the schema
// provwatch. Once it has passed with the schema there, no stranger can add to it.
func refuseStrangers(ctx context.Context, db store.DBTX) error {
	strangers, err := store.On(db).ListStrangers(ctx)
	if err != nil {
		return unusable("look at its owner", err)
	}
	if len(strangers) > 0 {
		var list []string
		for _, s := range strangers {
			list = append(list, fmt.Sprintf("%q %s", s.Role, s.How))
		}
		return &UnusableError{Reason: "the schema provwatch is open to roles that are neither this one nor an owner of the database or of the provider tables (" +
			strings.Join(list, ", ") + "), and what is in it can be planted; look at it, then drop it, or let the owner of the provider tables own it " +
			"and all that is in it, and revoke CREATE on it"}
	}
	return nil
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
			"check the search_path, or finish what made or dropped the other"}
	case !found.Providers && len(status.Applied) > 0:
		return Status{}, &UnusableError{Reason: "the tables ai_providers and ai_provider_keys are gone, or not on the search_path; " +
			"restore them, or drop the schema provwatch to start anew"}
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

// Columns that the worker reads or writes, by table.
var (
	providerColumns = []string{"id", "type", "name", "enabled", "deleted", "base_url", "settings", "settings_key_id", "updated_at"}
	keyColumns      = []string{"id", "provider_id", "api_key", "api_key_key_id"}
)

// Columns that the worker gives a value to when it inserts.
var (
	providerInserts = []string{"id", "type", "name", "base_url", "settings"}
	keyInserts      = []string{"id", "provider_id", "api_key"}
)

// checkColumns checks that provider tables made by another program have the
// columns that the worker uses, and none that an insert would have to fill
// without knowing it.
func checkColumns(details store.SchemaDetails) error {
	for _, table := range []struct {
		name           string
		columns        []store.ListColumnsRow
		needed, filled []string
	}{
		{"ai_providers", details.ProviderColumns, providerColumns, providerInserts},
		{"ai_provider_keys", details.KeyColumns, keyColumns, keyInserts},
	} {
		columns := table.columns
		var missing, unknown, mistyped []string
		for _, name := range table.needed {
			if !slices.ContainsFunc(columns, func(c store.ListColumnsRow) bool { return c.Name == name }) {
				missing = append(missing, name)
			}
		}
		for _, c := range columns {
			if strings.HasSuffix(c.Name, "id") && slices.Contains(table.filled, c.Name) && c.Type != "uuid" {
				mistyped = append(mistyped, c.Name)
			}
			if c.Required && !slices.Contains(table.filled, c.Name) {
				unknown = append(unknown, c.Name)
			}
		}
		if len(missing) > 0 {
			return &UnusableError{Reason: fmt.Sprintf("table %s lacks the columns %s; it is of a version of the gateway that this worker does not know",
				table.name, strings.Join(missing, ", "))}
		}
		if len(mistyped) > 0 {
			return &UnusableError{Reason: fmt.Sprintf("columns of table %s are not of type uuid: %s; it is not the gateway's table, or of a version that this worker does not know",
				table.name, strings.Join(mistyped, ", "))}
		}
		if i := slices.IndexFunc(columns, func(c store.ListColumnsRow) bool { return c.Name == "type" }); i >= 0 && !columns[i].IsEnum {
			return &UnusableError{Reason: fmt.Sprintf("the column type of table %s is not of an enum; it is not the gateway's table, or of a version that this worker does not know", table.name)}
		}
		if len(unknown) > 0 {
			return &UnusableError{Reason: fmt.Sprintf("table %s has columns that need a value which this worker does not know: %s; give them a default",
				table.name, strings.Join(unknown, ", "))}
		}
	}
	return nil
}

func withConn(ctx context.Context, config *pgx.ConnConfig, do func(*pgx.Conn) error) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return unusable("connect", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
		select {
		case <-conn.PgConn().CleanupDone(): // the server has ended a statement that was broken off
		case <-closing.Done():
		}
	}()
	return do(conn)
}

// ifDenied returns what the role lacks and who need not, when that is why err is.
func ifDenied(err error, lacks, flags string) string {
	if !IsDenied(err) {
		return ""
	}
	return fmt.Sprintf(" (%s; or run \"worker migrate%s\" as the owner)", lacks, flags)
}

// ifUnlogged returns why the WAL has nothing of a table, when that is why err is: the
// server's message does not say it.
func ifUnlogged(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != pgerrcode.InvalidParameterValue {
		return ""
	}
	return " (the WAL has nothing of tables that are unlogged; ALTER TABLE … SET LOGGED, or use --source=notify)"
}

func unusable(doing string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &UnusableError{Reason: "cannot " + doing, Err: err}
}
