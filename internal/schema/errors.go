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
	Reason string // empty where Err is all
	Err    error  // nil where the reason is all
}

func (e *UnusableError) Error() string {
	const what = "the database's schema cannot be used: "
	switch {
	case e.Err == nil:
		return what + e.Reason
	case e.Reason == "":
		return what + e.Err.Error()
	}
	return what + e.Reason + ": " + e.Err.Error()
}

func (e *UnusableError) Unwrap() error { return e.Err }

// toMigrate returns an error that a migration ends. The rest continues its text.
func toMigrate(reason, rest string) *UnusableError {
	return &UnusableError{Err: remedy.Problem(reason+"; run ", remedy.Run("migrate"), rest)}
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
	denied := remedy.Problem("cannot "+doing+" ("+lacks+"; or run ", by, " as the owner)")
	return &UnusableError{Err: fmt.Errorf("%w: %w", denied, err)}
}

// IsDenied reports whether the server denied a privilege.
func IsDenied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == pgerrcode.InsufficientPrivilege
}
