package schema_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/schema"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// prepared is a database whose provider tables are in a schema of their own,
// which not everybody may use, with the roles of sql/roles.sql.
func prepared(t *testing.T, providers string) *pgx.Conn {
	t.Helper()
	template := "prepared_" + strings.ReplaceAll(strings.ToLower(providers), " ", "_")
	return connected(t, pgtest.NewDatabaseFrom(t, template, func(url string) error { return prepare(url, providers, "") }), providers)
}

// preparedOn is prepared on a database, after a statement of its owner.
func preparedOn(t *testing.T, url, providers, first string) *pgx.Conn {
	t.Helper()
	require.NoError(t, prepare(url, providers, first))
	return connected(t, url, providers)
}

// connected is a session of the owner, who finds the provider tables.
func connected(t *testing.T, url, providers string) *pgx.Conn {
	t.Helper()
	config, err := ownerOf(url, providers)
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func ownerOf(url, providers string) (*pgx.ConnConfig, error) {
	pool, err := postgres.ParseURL(url)
	if err != nil {
		return nil, err
	}
	config := pool.ConnConfig
	config.RuntimeParams["search_path"] = `"$user", ` + pgx.Identifier{providers}.Sanitize()
	return config, nil
}

// prepare fills a database for [prepared].
func prepare(url, providers, first string) error {
	ctx, cancel := context.WithTimeout(context.Background(), waittest.Patience)
	defer cancel()
	config, err := ownerOf(url, providers)
	if err != nil {
		return err
	}
	if err := execOn(ctx, config, first+"; CREATE SCHEMA "+pgx.Identifier{providers}.Sanitize()); err != nil {
		return err
	}
	if _, _, err := schema.Migrate(ctx, config, schema.Needs{Triggers: true, Publication: true}); err != nil {
		return err
	}
	script, err := os.ReadFile("../../sql/roles.sql")
	if err != nil {
		return err
	}
	client, err := pgx.ParseConfig(config.ConnString())
	if err != nil {
		return err
	}
	client.RuntimeParams["search_path"] = config.RuntimeParams["search_path"]
	// It can be run again.
	return execOn(ctx, client, string(script), string(script))
}

// execOn runs scripts in a session of their own.
func execOn(ctx context.Context, config *pgx.ConnConfig, scripts ...string) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	for _, script := range scripts {
		if _, err = conn.Exec(ctx, script); err != nil {
			break
		}
	}
	return errors.Join(err, conn.Close(ctx))
}

// without runs a test as the role, with one privilege revoked from it.
func without(t *testing.T, conn *pgx.Conn, role, grant string, test func(pgx.Tx)) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	revoke := strings.Replace(strings.Replace(grant, "GRANT ", "REVOKE ", 1), " TO ", " FROM ", 1)
	_, err = tx.Exec(t.Context(), revoke+"; SET LOCAL ROLE "+role)
	require.NoError(t, err)
	test(tx)
}

func TestMissingPrivileges(t *testing.T) {
	t.Parallel()
	t.Run("GroupToJoin", testMissingPrivilegesGroupToJoin)
	t.Run("AllAtOnceAndQuoted", testMissingPrivilegesAllAtOnceAndQuoted)
	t.Run("OnlyDeniedIsExplained", testMissingPrivilegesOnlyDeniedIsExplained)
}

// testMissingPrivilegesGroupToJoin joins what the error names, for each use that a command
// makes of a role.
func testMissingPrivilegesGroupToJoin(t *testing.T) {
	t.Parallel()
	conn := prepared(t, "gateway")
	for use, want := range map[schema.Use]string{
		schema.WAL:                                            "provwatch_wal",
		schema.WAL | schema.Sinks:                             "provwatch_wal and provwatch_sinks",
		schema.Notifications | schema.Sinks:                   "provwatch_notify and provwatch_sinks",
		schema.WAL | schema.Sinks | schema.Pruning:            "provwatch_wal and provwatch_sinks and provwatch_pruner",
		schema.Notifications | schema.Pruning:                 "provwatch_notify and provwatch_pruner",
		schema.Observing | schema.Pruning:                     "provwatch_observer and provwatch_pruner",
		schema.Pruning | schema.PruningAudit:                  "provwatch_notify and provwatch_pruner",
		schema.Observing:                                      "provwatch_observer",
		schema.Observing | schema.ObservingWAL | schema.Sinks: "provwatch_observer and provwatch_sinks",
		schema.Seeding | schema.Credentials:                   "provwatch_notify",
		schema.Verifying:                                      "provwatch_operator",
		schema.Verifying | schema.Credentials:                 "provwatch_operator",
		schema.Resolving:                                      "provwatch_operator",
		schema.ApplyingByHand:                                 "provwatch_operator",
		schema.WAL | schema.Applying:                          "provwatch_wal and provwatch_applier",
		schema.SinkRetries:                                    "provwatch_operator",
		schema.Watching:                                       "provwatch_reader",
		schema.Reporting:                                      "provwatch_reader",
	} {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "CREATE ROLE joins_a_group; SET LOCAL ROLE joins_a_group")
		require.NoError(t, err)
		require.ErrorContains(t, schema.CheckPrivileges(t.Context(), tx, use), "make it a member of "+want+", or run\n")
		_, err = tx.Exec(t.Context(), "RESET ROLE; GRANT "+strings.ReplaceAll(want, " and ", ", ")+" TO joins_a_group; SET LOCAL ROLE joins_a_group")
		require.NoError(t, err)
		require.NoError(t, schema.CheckPrivileges(t.Context(), tx, use), want)
		require.NoError(t, tx.Rollback(t.Context()))
	}
}

func statements(err error) []string {
	return regexp.MustCompile(`(?m)^GRANT .*;$`).FindAllString(err.Error(), -1)
}

func testMissingPrivilegesAllAtOnceAndQuoted(t *testing.T) {
	t.Parallel()
	conn := prepared(t, "The Gateway")
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `CREATE ROLE "we""ird role"; SET LOCAL ROLE "we""ird role"`)
	require.NoError(t, err)
	err = schema.CheckPrivileges(t.Context(), tx, schema.Notifications)
	want := statements(err)
	require.Contains(t, want, `GRANT USAGE ON SCHEMA "The Gateway" TO "we""ird role";`)
	require.Contains(t, want, `GRANT INSERT (id, provider_id, api_key, api_key_key_id) ON TABLE "The Gateway".ai_provider_keys TO "we""ird role";`)
	require.Contains(t, want, `GRANT INSERT ON TABLE provwatch.drift_alerts TO "we""ird role";`)
	_, err = tx.Exec(t.Context(), "RESET ROLE; "+strings.Join(want, "\n")+` SET LOCAL ROLE "we""ird role"`)
	require.NoError(t, err)
	require.NoError(t, schema.CheckPrivileges(t.Context(), tx, schema.Notifications))
	require.Error(t, schema.CheckPrivileges(t.Context(), tx, schema.WAL), "of the WAL's there are more")
}

func testMissingPrivilegesOnlyDeniedIsExplained(t *testing.T) {
	t.Parallel()
	conn := prepared(t, "gateway")
	other := errors.New("another")
	require.Equal(t, other, schema.Explain(t.Context(), conn, schema.WAL, other))
	without(t, conn, "provwatch_reader", "GRANT SELECT ON TABLE provwatch.drift_alerts TO provwatch_reader;", func(tx pgx.Tx) {
		denied := pgx.BeginFunc(t.Context(), tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "SELECT FROM provwatch.drift_alerts")
			return err
		})
		require.Equal(t, []string{`GRANT SELECT ON TABLE provwatch.drift_alerts TO "provwatch_reader";`},
			statements(schema.Explain(t.Context(), tx, schema.Watching, denied)))
		// Denied was something else.
		require.Equal(t, denied, schema.Explain(t.Context(), tx, 0, denied))
	})
}
