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
	for _, passes := range []*pgconn.PgError{{Code: "28P01"}, {Code: "28000", Routine: "InitializeSessionUserId"}, {Code: "28000", Routine: "auth_failed"}, {Code: "08P01", Message: "invalid message format"},
		// The server's, of a statement that was prepared before a table was made again.
		{Code: "0A000", Routine: "RevalidateCachedQuery", Message: "cached plan must not change result type"}} {
		require.Nil(t, asUnusable(fmt.Errorf("connect: %w", passes)), "%v", passes)
	}
	for _, stays := range []*pgconn.PgError{{Code: "28000", Routine: "ClientAuthentication"}, {Code: "53300"}, {Code: "0A000", Message: "a pooler's refusal"}, {Code: "08P01", Message: "unsupported startup parameter: replication"}} {
		require.NotNil(t, asUnusable(fmt.Errorf("connect: %w", stays)), "%v", stays)
	}
}
