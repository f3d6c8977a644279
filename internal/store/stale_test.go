package store_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// renewEnum makes the enum of the provider tables anew, as a restore over them does.
const renewEnum = `
	ALTER TYPE ai_provider_type RENAME TO former;
	CREATE TYPE ai_provider_type AS ENUM ('openai', 'anthropic', 'azure', 'bedrock', 'google', 'openai-compat', 'openrouter', 'vercel', 'copilot');
	ALTER TABLE ai_providers ALTER COLUMN type TYPE ai_provider_type USING type::text::ai_provider_type;
	DROP TYPE former`

// change changes the provider tables by a connection that has a fixed search path.
func change(t *testing.T, db *pgxpool.Conn, sql string) {
	t.Helper()
	_, err := db.Exec(t.Context(), "SET search_path = public; "+sql+"; SET search_path = pg_catalog, pg_temp")
	require.NoError(t, err)
}

func TestStaleStatement(t *testing.T) {
	t.Parallel()
	t.Run("Changes", testStaleStatementChanges)
	t.Run("IsRepeated", testStaleStatementIsRepeated)
}

// testStaleStatementChanges shows which changes of a table make the server refuse a
// statement that was prepared before.
func testStaleStatementChanges(t *testing.T) {
	t.Parallel()
	const look = `SELECT id, name, type FROM public.ai_providers WHERE name = $1`
	for what, c := range map[string]struct {
		change string
		stale  bool
	}{
		"a column is added":                   {change: `ALTER TABLE ai_providers ADD COLUMN more text`},
		"the column's type is changed":        {change: `ALTER TABLE ai_providers ALTER COLUMN name TYPE varchar(200)`, stale: true},
		"its enum is made anew":               {change: renewEnum, stale: true},
		"its enum gets a label":               {change: `ALTER TYPE ai_provider_type ADD VALUE 'another'`},
		"the table is made anew":              {change: `CREATE TABLE new (LIKE ai_providers); DROP TABLE ai_providers CASCADE; ALTER TABLE new RENAME TO ai_providers`},
		"the table is made anew with columns": {change: `CREATE TABLE new (more text, LIKE ai_providers); DROP TABLE ai_providers CASCADE; ALTER TABLE new RENAME TO ai_providers`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			pool, _ := pgtest.NewGatewayPool(t)
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			run := func() error {
				_, err := conn.Exec(t.Context(), look, "none")
				return err
			}
			require.NoError(t, run())
			change(t, conn, c.change)
			err = run()
			if !c.stale {
				require.NoError(t, err)
				return
			}
			require.True(t, postgres.IsStale(err), "%v", err)
			require.NoError(t, run(), "the driver prepares it again")
		})
	}
}

// testStaleStatementIsRepeated changes a column's type after two connections of a pool
// have prepared the statements, which are run in each way then.
func testStaleStatementIsRepeated(t *testing.T) {
	t.Parallel()
	const look = `SELECT type FROM gateway.ai_providers WHERE name <> $1`
	for way, run := range map[string]func(t *testing.T, pool *pgxpool.Pool) error{
		"of sqlc": func(t *testing.T, pool *pgxpool.Pool) error {
			_, err := store.On(pool).ListProviders(t.Context(), []string{"none"}, nil, false)
			return err
		},
		"rows": func(t *testing.T, pool *pgxpool.Pool) error {
			rows, err := store.Gateway(pool).Query(t.Context(), look, "none")
			if err != nil {
				return err
			}
			found, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.Equal(t, []string{"openai"}, found)
			return err
		},
		"a row": func(t *testing.T, pool *pgxpool.Pool) error {
			var found string
			err := store.Gateway(pool).QueryRow(t.Context(), look, "none").Scan(&found)
			require.Equal(t, "openai", found)
			return err
		},
		"exec": func(t *testing.T, pool *pgxpool.Pool) error {
			_, err := store.Gateway(pool).Exec(t.Context(), look, "none")
			return err
		},
		"a transaction": func(t *testing.T, pool *pgxpool.Pool) error {
			return postgres.BeginTx(t.Context(), pool, pgx.TxOptions{}, func(tx pgx.Tx) error {
				_, err := store.Gateway(tx).Exec(t.Context(), look, "none")
				return err
			})
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			pool, _ := pgtest.NewGatewayPool(t)
			_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'some', '')`)
			require.NoError(t, err)
			var held []*pgxpool.Conn
			for range 2 {
				require.NoError(t, run(t, pool))
				conn, err := pool.Acquire(t.Context())
				require.NoError(t, err)
				held = append(held, conn)
			}
			change(t, held[0], renewEnum)
			for _, conn := range held {
				conn.Release()
			}
			require.NoError(t, run(t, pool))
		})
	}
}
