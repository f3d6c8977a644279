package wal

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/remedy"
)

func TestUnusableError(t *testing.T) {
	t.Parallel()
	full := &pgconn.PgError{Severity: "ERROR", Code: "53400", Message: "all replication slots are in use"}
	migrate := remedy.Run("migrate", "--source=wal")
	for want, err := range map[string]*UnusableError{
		"the WAL cannot be read: it is a view": {Reason: "it is a view"},
		"the WAL cannot be read: all replication slots or walsenders are in use; raise max_replication_slots and max_wal_senders: " + full.Error(): asFull(full),
		`the WAL cannot be read: it is not published; run "worker migrate --source=wal" as the owner`: {
			Reason: "it is not published", Remedy: remedy.Advice{"run ", migrate, " as the owner"},
		},
	} {
		require.EqualError(t, err, want)
	}
	site := remedy.Site{Target: &remedy.Target{Name: "billing", File: "provwatch.yaml"}}
	err := fmt.Errorf("start: %w", &UnusableError{Reason: "it is not published", Remedy: remedy.Advice{"run ", migrate}})
	require.Equal(t, `start: the WAL cannot be read: it is not published; run "worker migrate --source=wal --config provwatch.yaml --target billing"`, site.Text(err))
}

func TestServerErrors(t *testing.T) {
	t.Parallel()
	t.Run("RefusedLogin", testServerErrorsRefusedLogin)
	t.Run("FullServer", testServerErrorsFullServer)
}

// testServerErrorsRefusedLogin has the errors of a password that is being rotated, which
// all connections get, and those of a replication connection alone. Only the latter are a
// reason to leave the WAL.
func testServerErrorsRefusedLogin(t *testing.T) {
	t.Parallel()
	for _, passes := range []*pgconn.PgError{{Code: "28P01"}, {Code: "28000", Routine: "InitializeSessionUserId"}, {Code: "28000", Routine: "auth_failed"}, {Code: "08P01", Message: "invalid message format"}, {Code: "53300"}, {Code: "53400"},
		// The server's, of a statement that was prepared before a table was made again.
		{Code: "0A000", Routine: "RevalidateCachedQuery", Message: "cached plan must not change result type"}} {
		require.Nil(t, asUnusable(fmt.Errorf("connect: %w", passes)), "%v", passes)
	}
	for _, stays := range []*pgconn.PgError{{Code: "28000", Routine: "ClientAuthentication"}, {Code: "0A000", Message: "a pooler's refusal"}, {Code: "08P01", Message: "unsupported startup parameter: replication"}} {
		require.NotNil(t, asUnusable(fmt.Errorf("connect: %w", stays)), "%v", stays)
	}
}

// testServerErrorsFullServer sorts the errors of a full server: it has no room for sessions of
// any kind, which another source would need as well, or for replication alone.
func testServerErrorsFullServer(t *testing.T) {
	t.Parallel()
	for _, any := range []*pgconn.PgError{{Code: "53300", Message: "sorry, too many clients already"}, {Code: "53300", Message: `too many connections for role "worker"`}, {Code: "28P01"}} {
		require.Nil(t, asFull(fmt.Errorf("connect: %w", any)), "%v", any)
	}
	for _, replication := range []*pgconn.PgError{{Code: "53400", Message: "all replication slots are in use"}, {Code: "53300", Message: "number of requested standby connections exceeds max_wal_senders (currently 2)"}} {
		require.NotNil(t, asFull(fmt.Errorf("connect: %w", replication)), "%v", replication)
		require.Nil(t, asUnusable(fmt.Errorf("connect: %w", replication)), "%v", replication)
	}
}
