package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/store"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	t.Run("FixedSearchPath", testSessionsFixedSearchPath)
	t.Run("RoleTimeouts", testSessionsRoleTimeouts)
	t.Run("NotSetUp", testSessionsNotSetUp)
}

// testSessionsFixedSearchPath asks each kind of session that a worker opens.
func testSessionsFixedSearchPath(t *testing.T) {
	t.Parallel()
	config, err := postgres.ParseURL(pgtest.NewDatabase(t) + "&search_path=elsewhere,public")
	require.NoError(t, err)
	show := func(config *pgconn.Config) []string {
		conn, err := pgconn.ConnectConfig(t.Context(), config)
		require.NoError(t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		results, err := conn.Exec(t.Context(), `SELECT current_setting('search_path'), current_setting('provwatch.search_path')`).ReadAll()
		require.NoError(t, err)
		return []string{string(results[0].Rows[0][0]), string(results[0].Rows[0][1])}
	}
	want := []string{"pg_catalog, pg_temp", "elsewhere,public"}
	for name, config := range map[string]*pgconn.Config{
		"of the pool, and of migrations": &config.ConnConfig.Config,
		"that listens":                   &postgres.ListenConfig(config).Config,
		"that reads the WAL":             &postgres.ReplicationConfig(config).Config,
		"of the status page":             &postgres.StatusConfig(config).ConnConfig.Config,
	} {
		require.Equal(t, want, show(config), "the session %s", name)
	}
}

// testSessionsRoleTimeouts asks each kind of session that a worker
// opens, as a role whose timeouts are short.
func testSessionsRoleTimeouts(t *testing.T) {
	t.Parallel()
	url := pgtest.NewDatabase(t)
	owner, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer owner.Close(context.Background())
	const timeouts = `SELECT name FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout') ORDER BY name`
	rows, err := owner.Query(t.Context(), timeouts)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	database := pgx.Identifier{owner.Config().Database}.Sanitize()
	for _, name := range names {
		_, err := owner.Exec(t.Context(), fmt.Sprintf("ALTER ROLE %s IN DATABASE %s SET %s = '1min'", owner.Config().User, database, name))
		require.NoError(t, err)
	}
	config, err := postgres.ParseURL(url)
	require.NoError(t, err)
	for session, c := range map[string]struct {
		config *pgconn.Config
		want   map[string]string // other than 0
	}{
		"of the pool, and of migrations": {&config.ConnConfig.Config, nil},
		"that listens":                   {&postgres.ListenConfig(config).Config, nil},
		"that reads the WAL":             {&postgres.ReplicationConfig(config).Config, nil},
		"of the status page":             {&postgres.StatusConfig(config).ConnConfig.Config, map[string]string{"statement_timeout": "3s", "lock_timeout": "1s"}},
	} {
		conn, err := pgconn.ConnectConfig(t.Context(), c.config)
		require.NoError(t, err)
		for _, name := range names {
			results, err := conn.Exec(t.Context(), "SHOW "+name).ReadAll()
			require.NoError(t, err)
			want := "0"
			if other := c.want[name]; other != "" {
				want = other
			}
			require.Equal(t, want, string(results[0].Rows[0][0]), "%s of the session %s", name, session)
		}
		require.NoError(t, conn.Close(context.Background()))
	}
}

// pool is a pool as the worker has it, on a database that has the schemas.
func pool(t *testing.T, path string, schemas ...string) *pgxpool.Pool {
	t.Helper()
	config, err := postgres.ParseURL(pgtest.NewDatabase(t))
	require.NoError(t, err)
	if path != "" {
		config.ConnConfig.RuntimeParams["search_path"] = path
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for _, schema := range schemas {
		execute(t, pool, "CREATE SCHEMA "+pgx.Identifier{schema}.Sanitize())
	}
	return pool
}

func execute(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func TestProviderTables(t *testing.T) {
	t.Parallel()
	t.Run("Located", testProviderTablesLocated)
	t.Run("Enum", testProviderTablesEnum)
	t.Run("SeveralSchemas", testProviderTablesSeveralSchemas)
	t.Run("CreatedLater", testProviderTablesCreatedLater)
}

func testProviderTablesLocated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path    string
		schemas []string
		tables  string // the schema that has them, if one has
		want    string
	}{
		"where the server's path has them made":         {"", nil, "", "public"},
		"behind a schema that is not there":             {"nowhere, public", nil, "public", "public"},
		"behind another schema":                         {"other, public", []string{"other"}, "public", "public"},
		"in the first schema where they are not yet":    {"other, public", []string{"other"}, "", "other"},
		"in a schema of capitals that were not quoted":  {"OTHER", []string{"other"}, "other", "other"},
		"in a schema whose name has all that separates": {`"a ""quoted"", name", public`, []string{`a "quoted", name`}, `a "quoted", name`, `a "quoted", name`},
		"in a schema whose name has a backslash":        {`"it's \ this"`, []string{`it's \ this`}, `it's \ this`, `it's \ this`},
		"never in our own schema":                       {"provwatch, public", []string{"provwatch"}, "", "public"},
		"in a schema that is named twice":               {"other, other", []string{"other"}, "other", "other"},
		"nowhere":                                       {"pg_catalog, pg_temp", nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pool(t, c.path, c.schemas...)
			if c.tables != "" {
				schema := pgx.Identifier{c.tables}.Sanitize()
				execute(t, pool, fmt.Sprintf(`CREATE TYPE %[1]s.ai_provider_type AS ENUM ('openai'); CREATE TABLE %[1]s.ai_providers (name text, type %[1]s.ai_provider_type);
					INSERT INTO %[1]s.ai_providers VALUES ('found', 'openai')`, schema))
			}
			tables, err := postgres.Locate(t.Context(), pool)
			require.NoError(t, err)
			require.Equal(t, c.want, tables.Schema)
			if c.tables == "" {
				return
			}
			var name string
			require.NoError(t, store.Gateway(pool).QueryRow(t.Context(), `SELECT name FROM gateway.ai_providers
				WHERE type = 'openai'::gateway.ai_provider_type AND 'gateway' = $1`, c.tables).Scan(&name))
			require.Equal(t, "found", name)
		})
	}
}

func testProviderTablesEnum(t *testing.T) {
	t.Parallel()
	pool := pool(t, "other", "other")
	execute(t, pool, `CREATE TYPE public.kinds AS ENUM ('openai'); CREATE TABLE other.ai_providers (type public.kinds)`)
	_, err := store.Gateway(pool).Exec(t.Context(), `INSERT INTO gateway.ai_providers SELECT $1::text::gateway.ai_provider_type`, "openai")
	require.NoError(t, err)
	types, err := store.On(pool).ListProviderTypes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"openai"}, types)
}

func testProviderTablesSeveralSchemas(t *testing.T) {
	t.Parallel()
	pool := pool(t, "other, public", "other")
	execute(t, pool, `CREATE TABLE other.ai_providers (); CREATE TABLE public.ai_providers ()`)
	_, err := postgres.Locate(t.Context(), pool)
	require.EqualError(t, err, `the table ai_providers is in several schemas of the search_path ("other", "public"), of which only one can be the gateway's; `+
		`name it alone, by search_path=… in DATABASE_URL or by ALTER ROLE … SET search_path`)
}

func testProviderTablesCreatedLater(t *testing.T) {
	t.Parallel()
	pool := pool(t, "other, public", "other")
	found, err := postgres.Locate(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, "other", found.Schema)
	execute(t, pool, `CREATE TABLE public.ai_providers (name text)`)
	found, err = postgres.Locate(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, "public", found.Schema)
	_, err = store.Gateway(pool).Exec(t.Context(), `TABLE gateway.ai_providers`)
	require.NoError(t, err)
}

func testSessionsNotSetUp(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.NewDatabase(t))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = store.On(conn).ListProviderTypes(t.Context())
	require.ErrorContains(t, err, "not set up")
}
