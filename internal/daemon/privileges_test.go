package daemon

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/remedy"
)

// TestMissingPrivileges checks a role without privileges for a target: /readyz renders the
// command that prints them.
func TestMissingPrivileges(t *testing.T) {
	t.Parallel()
	owner, _ := pgtest.NewPool(t)
	config := owner.Config()
	config.ConnConfig.RuntimeParams["role"] = "pg_monitor"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	var log bytes.Buffer
	h := &health{site: remedy.Site{Target: &remedy.Target{Name: "billing", File: "/etc/provwatch.yaml"}}}
	h.setListening(nil)
	h.setVerified(true, nil)
	p := &privileges{pool: pool, leadership: &leadership{}, health: h, logger: slog.New(slog.NewTextHandler(&log, nil))}
	p.check(t.Context())
	require.ErrorContains(t, h.ready(), `the SQL that "worker roles --config /etc/provwatch.yaml --target billing" prints and make it a member of provwatch_notify`)
	p.check(t.Context())
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("the role has lost privileges")), "logged once")
}
