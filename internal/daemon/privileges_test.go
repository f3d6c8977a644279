package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
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

// TestPrivilegeChecksAtOnce has the role lose a privilege just after a check has looked for it. A
// check that begins then ends before the first one, whose result is no longer true.
func TestPrivilegeChecksAtOnce(t *testing.T) {
	t.Parallel()
	owner, config := pgtest.NewPool(t)
	exec := func(statements string) {
		_, err := owner.Exec(context.Background(), statements, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
	exec(`GRANT ALL ON SCHEMA public, provwatch TO pg_monitor; GRANT ALL ON ALL TABLES IN SCHEMA public, provwatch TO pg_monitor;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA provwatch TO pg_monitor`)
	h := &health{}
	h.setListening(nil)
	h.setVerified(true, nil)
	p := &privileges{leadership: &leadership{}, health: h, logger: slog.New(slog.DiscardHandler)}
	var later error
	traced := config.Copy()
	traced.ConnConfig.RuntimeParams["role"] = "pg_monitor"
	traced.ConnConfig.Tracer = &afterQuery{text: "name: listMissingPrivileges", do: func() {
		exec(`REVOKE INSERT ON provwatch.drift_alerts FROM pg_monitor`)
		p.check(context.Background())
		later = h.ready()
	}}
	pool, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	defer pool.Close()
	p.pool = pool
	p.check(t.Context())
	require.ErrorContains(t, later, "GRANT INSERT ON TABLE provwatch.drift_alerts")
	require.EqualError(t, h.ready(), later.Error())
	exec(`GRANT INSERT ON provwatch.drift_alerts TO pg_monitor`)
	p.check(t.Context())
	require.NoError(t, h.ready())
}
