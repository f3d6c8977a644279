package wal

import (
	"errors"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/postgres"
	"provwatch/internal/remedy"
	"provwatch/internal/schema"
)

// UnusableError says that the WAL cannot be read from this database as it is.
type UnusableError struct {
	Reason string
	Remedy remedy.Advice // empty where there is none beside those in Reason and Err
	Err    error         // may be nil
	// Unpublish is set when publishing the tables makes writing to them fail.
	Unpublish bool
	// RoleOnly is set when another role could read the WAL.
	RoleOnly bool
}

func (e *UnusableError) Error() string {
	text := e.problem().Error()
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// problem is the error without Err.
func (e *UnusableError) problem() error {
	parts := remedy.Advice{"the WAL cannot be read: " + e.Reason}
	if len(e.Remedy) > 0 {
		parts = append(append(parts, "; "), e.Remedy...)
	}
	return remedy.Problem(parts...)
}

func (e *UnusableError) Unwrap() error { return e.Err }

// Remedies returns the commands in the remedy.
func (e *UnusableError) Remedies() []remedy.Remedy { return remedy.Of(e.problem()) }

// gapError ends an attempt whose slot is lost or must be given up: the next one
// starts with a new slot.
type gapError struct{ reason string }

func (e *gapError) Error() string { return e.reason }

// asFull returns the error of a server that has no room for another replication slot or
// session, nil for another: it can pass by itself.
func asFull(err error) *UnusableError {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return nil
	}
	// Messages are translated, but for the names of settings. The code is also that of a
	// server, database or role without room for sessions of any kind.
	if pg.Code == pgerrcode.ConfigurationLimitExceeded || pg.Code == pgerrcode.TooManyConnections && strings.Contains(pg.Message, "max_wal_senders") {
		return &UnusableError{Reason: "all replication slots or walsenders are in use", Remedy: remedy.Advice{"raise max_replication_slots and max_wal_senders"}, Err: err}
	}
	return nil
}

// asHeld returns the error of a slot whose holder does not end, nil for another.
func asHeld(err error) *UnusableError {
	var held *HeldError
	if !errors.As(err, &held) {
		return nil
	}
	return &UnusableError{Reason: held.reason(), Remedy: held.remedy()}
}

// isShort reports whether the server has too little disk or memory for what was asked.
func isShort(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == pgerrcode.DiskFull || pg.Code == pgerrcode.OutOfMemory)
}

// asUnusable tells failures that waiting does not mend from those that pass. A
// privilege on a table that is denied is none: another source would lack it too.
func asUnusable(err error) *UnusableError {
	var unusable *UnusableError
	if errors.As(err, &unusable) {
		return unusable
	}
	var pg *pgconn.PgError
	var schemaError *schema.UnusableError
	switch {
	case errors.As(err, &schemaError) && !postgres.IsConnectionLoss(err):
		return &UnusableError{Reason: "could not create the publication", Err: err}
	case !errors.As(err, &pg), postgres.IsLoginRefused(err): // as in a rotation, of all connections
		return nil
	}
	switch {
	case pg.Code == pgerrcode.InvalidAuthorizationSpecification:
		return &UnusableError{Reason: "the role cannot open a replication connection", Remedy: remedy.Advice{"allow it in pg_hba.conf"}, Err: err}
	case pg.Code == pgerrcode.FeatureNotSupported && pg.Routine == "", pg.Code == pgerrcode.ProtocolViolation && strings.Contains(pg.Message, "replication"):
		// As of a pooler, which refuses the parameter of that name. The server's own
		// errors name a routine: this code is that of a statement which was prepared
		// before a table was made again as well, and passes with the next attempt.
		return &UnusableError{Reason: "this address does not accept replication connections", Remedy: remedy.Advice{"connect to the server itself, not to a pooler"}, Err: err}
	}
	return nil
}

// asGap returns the error of a slot that must be replaced, nil for another.
func asGap(err error) *gapError {
	var gap *gapError
	if !errors.As(err, &gap) {
		return nil
	}
	return gap
}
