package postgres_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/postgres"
)

func TestWithoutValues(t *testing.T) {
	const secret = "sk-secret"
	for _, code := range []string{"23514", "22P02", "P0001", "44000", "XX000", "ZZ123", "", "2"} {
		err := postgres.WithoutValues(fmt.Errorf("insert: %w", &pgconn.PgError{
			Severity: "ERROR", Code: code, Message: "failing row contains " + secret, Detail: secret, Hint: secret, Where: secret,
			ConstraintName: "keys_check", TableName: "ai_provider_keys",
		}))
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), secret, "SQLSTATE %q", code)
		require.Contains(t, err.Error(), "constraint keys_check")
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg)
		require.Equal(t, code, pg.Code)
	}
	denied := &pgconn.PgError{Severity: "ERROR", Code: "42501", Message: "permission denied for table ai_providers"}
	require.Equal(t, error(denied), postgres.WithoutValues(denied))
	require.Equal(t, io.EOF, postgres.WithoutValues(io.EOF))
}

func TestConnectionLoss(t *testing.T) {
	for _, lost := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, &net.OpError{Op: "read", Err: errors.New("connection reset")},
		&pgconn.PgError{Code: "57P01"}, &pgconn.PgError{Code: "57P03"}, &pgconn.PgError{Code: "53300"}, &pgconn.PgError{Code: "08006"},
		&pgconn.PgError{Code: "28P01"}, &pgconn.PgError{Code: "28000", Routine: "InitializeSessionUserId"}, &pgconn.PgError{Code: "28000", Routine: "auth_failed"}, // in the middle of a rotation
		&postgres.PoolingError{}, &pgconn.PgError{Code: "42P05"}, &pgconn.PgError{Code: "26000"},
		&pgconn.PgError{Code: "08P01", Message: "transaction blocks not allowed in statement pooling mode"},
	} {
		require.True(t, postgres.IsConnectionLoss(fmt.Errorf("x: %w", lost)), "%v", lost)
	}
	for _, other := range []error{errors.New("x"), &net.OpError{Op: "listen", Err: errors.New("address in use")}, &pgconn.PgError{Code: "42501"}, &pgconn.PgError{Code: "57014"}, &pgconn.PgError{Code: "28000"}} {
		require.False(t, postgres.IsConnectionLoss(other), "%v", other)
	}
}
