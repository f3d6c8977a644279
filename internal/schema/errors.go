package schema

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

// UnusableError says that the schema is not what the worker needs; exit code 4.
type UnusableError struct {
	Reason   string          // includes how to end it
	Commands []remedy.Remedy // in the reason, [remedy.Remedy.Quoted]
	Err      error           // may be nil
}

func (e *UnusableError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("the database's schema cannot be used: %s: %v", e.Reason, e.Err)
	}
	return "the database's schema cannot be used: " + e.Reason
}

func (e *UnusableError) Unwrap() error { return e.Err }

// Remedies returns the commands in the text of the error.
func (e *UnusableError) Remedies() []remedy.Remedy { return e.Commands }

// toMigrate returns an error that a migration ends. The rest continues its text.
func toMigrate(reason, rest string) *UnusableError {
	migrate := remedy.Run("migrate")
	return &UnusableError{Reason: reason + "; run " + migrate.Quoted() + rest, Commands: []remedy.Remedy{migrate}}
}

var errStandby = &UnusableError{Reason: "the server is a standby, which is read-only; connect to the primary"}

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

// unusableByOthers is [unusable] for work that another role can do by the remedy where this
// one lacks a privilege.
func unusableByOthers(doing string, err error, lacks string, by remedy.Remedy) error {
	if !IsDenied(err) || errors.Is(err, context.Canceled) {
		return unusable(doing, err)
	}
	return &UnusableError{
		Reason:   fmt.Sprintf("cannot %s (%s; or run %s as the owner)", doing, lacks, by.Quoted()),
		Commands: []remedy.Remedy{by}, Err: err,
	}
}
