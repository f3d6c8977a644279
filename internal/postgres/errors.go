package postgres

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// IsLoginRefused reports whether the server did not let the role log in by the password
// that it was given, which passes once a rotation of either is done.
func IsLoginRefused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == pgerrcode.InvalidPassword || isUnknownRole(pg) || isFailedLogin(pg))
}

// isFailedLogin reports whether the role has failed to authenticate by another method than
// a password that the server has, such as LDAP, PAM or RADIUS. The rejection by a rule of
// pg_hba.conf, which has the same code, comes from another function of the server.
func isFailedLogin(err *pgconn.PgError) bool {
	return err.Code == pgerrcode.InvalidAuthorizationSpecification && err.Routine == "auth_failed"
}

// isUnknownRole reports whether there is no such role, or one that may not log in, which
// only the function of the server tells in every language.
func isUnknownRole(err *pgconn.PgError) bool {
	return err.Code == pgerrcode.InvalidAuthorizationSpecification && err.Routine == "InitializeSessionUserId"
}

// IsConnectionLoss reports whether err says that the connection broke or could
// not be made, that its session is another's, that the login was refused, or that the
// server is full, going down or coming up.
func IsConnectionLoss(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pgerrcode.IsConnectionException(pg.Code) || IsLoginRefused(pg) || IsPooling(pg) || slices.Contains([]string{
			pgerrcode.AdminShutdown, pgerrcode.CrashShutdown, pgerrcode.CannotConnectNow, pgerrcode.TooManyConnections,
		}, pg.Code)
	}
	if IsPooling(err) {
		return true
	}
	var connect *pgconn.ConnectError
	var network net.Error
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		return false // on an address of this machine
	}
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// isFull reports whether the server, the database or the role may have no more sessions.
func isFull(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == pgerrcode.TooManyConnections
}

// quotesNothing are the classes of SQLSTATE whose messages name objects and
// conditions, and never quote a row or a parameter.
var quotesNothing = []string{"08", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}

// WithoutValues returns err without anything that the server may have quoted
// from a row or a parameter. It is for transactions that write secrets: a check
// constraint or trigger of another program can put the failing row into its
// message, at the commit too.
func WithoutValues(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || slices.Contains(quotesNothing, pg.Code[:min(2, len(pg.Code))]) {
		return err
	}
	message := "the server refused to write (its message is withheld, since it may quote a secret; the server's log has it)"
	if pg.ConstraintName != "" {
		message += ": constraint " + pg.ConstraintName
	}
	if pg.ColumnName != "" {
		message += ": column " + pg.ColumnName
	}
	if pg.TableName != "" {
		message += " of table " + pg.TableName
	}
	return &pgconn.PgError{
		Severity: pg.Severity, Code: pg.Code, Message: message,
		SchemaName: pg.SchemaName, TableName: pg.TableName, ColumnName: pg.ColumnName, ConstraintName: pg.ConstraintName,
	}
}

// PoolingError says that the connection is one of a pooler, which has given the session
// to others meanwhile.
type PoolingError struct{}

func (*PoolingError) Error() string {
	return "there is a pooler before the server that keeps no session: it pools transactions or statements"
}

// IsPooling reports whether err says that a pooler before the server keeps no session.
// A prepared statement that is not there, or is there already, is another's session;
// and PgBouncer takes no transaction where it pools statements.
func IsPooling(err error) bool {
	var (
		pooling *PoolingError
		pg      *pgconn.PgError
	)
	return errors.As(err, &pooling) ||
		errors.As(err, &pg) && (pg.Code == pgerrcode.InvalidSQLStatementName || pg.Code == pgerrcode.DuplicatePreparedStatement ||
			pg.Code == pgerrcode.ProtocolViolation && strings.Contains(pg.Message, "statement pooling mode"))
}
