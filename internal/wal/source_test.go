package wal

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// TestARefusedLoginIsNoReasonToLeaveTheWAL has the errors of a password that is being
// rotated, which all connections get, and those of a replication connection alone.
func TestARefusedLoginIsNoReasonToLeaveTheWAL(t *testing.T) {
	for _, passes := range []*pgconn.PgError{{Code: "28P01"}, {Code: "28000", Routine: "InitializeSessionUserId"}, {Code: "28000", Routine: "auth_failed"}, {Code: "08P01", Message: "invalid message format"}} {
		require.Nil(t, asUnusable(fmt.Errorf("connect: %w", passes)), "%v", passes)
	}
	for _, stays := range []*pgconn.PgError{{Code: "28000", Routine: "ClientAuthentication"}, {Code: "53300"}, {Code: "08P01", Message: "unsupported startup parameter: replication"}} {
		require.NotNil(t, asUnusable(fmt.Errorf("connect: %w", stays)), "%v", stays)
	}
}
