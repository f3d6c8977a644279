package schema

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/store"
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
