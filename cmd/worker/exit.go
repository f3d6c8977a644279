package main

import (
	"errors"
	"net"

	"provwatch/internal/embedded"
	"provwatch/internal/environment"
	"provwatch/internal/postgres"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
)

// Exit codes (docs/specification.md, section 8).
const (
	exitOK       = 0
	exitFailure  = 1
	exitDrift    = 2
	exitUsage    = 3 // bad environment or flags
	exitDatabase = 4 // database unreachable or schema unusable
)

// usageError is a mistake in flags or arguments.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// errDrift says that a drift was found and has been printed.
var errDrift = errors.New("drift found")

func exitCode(err error) int {
	var (
		usage       *usageError
		environment *environment.Error
		database    *postgres.ConnectionStringError
		drift       *seed.DriftError
		unreachable *postgres.UnreachableError
		unusable    *schema.UnusableError
		ambiguous   *postgres.AmbiguousTablesError
		network     *net.OpError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.As(err, &environment), errors.As(err, &database):
		return exitUsage
	case errors.Is(err, errDrift), errors.As(err, &drift) && drift.Comparable():
		return exitDrift
	case errors.As(err, &network) && network.Op == "listen":
		return exitFailure // --http-addr is taken, and the database has nothing to do with it
	case errors.As(err, &unreachable), errors.As(err, &unusable), errors.As(err, &ambiguous), errors.Is(err, embedded.ErrNotRunning),
		postgres.IsConnectionLoss(err):
		return exitDatabase
	default:
		return exitFailure
	}
}
