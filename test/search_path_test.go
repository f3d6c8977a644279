//go:build e2e

package test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestSearchPath(t *testing.T) {
	t.Parallel()
	t.Run("TablesInAnotherSchema", testSearchPathTablesInAnotherSchema)
	t.Run("TwoSchemasAreRefused", testSearchPathTwoSchemasAreRefused)
	t.Run("PlantedFunctionGetsNoKey", testSearchPathPlantedFunctionGetsNoKey)
}

// testSearchPathTablesInAnotherSchema lets a search path name the schema, as part
// of DATABASE_URL or of the role.
func testSearchPathTablesInAnotherSchema(t *testing.T) {
	t.Parallel()
	const schema = `The "Gateway", it's`
	for _, source := range []string{"notify", "wal"} {
		for _, by := range []string{"DATABASE_URL", "ALTER ROLE"} {
			t.Run(source+" by "+by, func(t *testing.T) {
				t.Parallel()
				w := newEmptyWorld(t)
				w.source = source
				quoted := pgx.Identifier{schema}.Sanitize()
				role, databaseURL := w.role("owner")
				w.exec(`CREATE SCHEMA ` + quoted + ` AUTHORIZATION ` + role)
				w.exec(`DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO ` + role + `', current_database()); END $$`)
				w.exec(`ALTER ROLE ` + role + ` REPLICATION`)
				if by == "ALTER ROLE" {
					w.exec(`ALTER ROLE ` + role + ` SET search_path = nowhere, ` + quoted + `, public`)
				} else {
					databaseURL = withPath(t, databaseURL, `nowhere,`+quoted+`,public`)
				}
				w.exec(`SET search_path = ` + quoted) // the test's own
				env := w.twoProviders().With("DATABASE_URL", databaseURL)
				require.Equal(t, 0, w.run(env, "migrate").Code)
				require.Equal(t, []string{schema, schema}, w.strings(`SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
					WHERE c.relname IN ('ai_providers', 'ai_provider_keys')`))
				p := w.start(env, "run").ready()
				w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
				w.expectAlerts("disabled openai")
				require.Equal(t, 0, w.run(env, "resolve", "openai", "--take=env").Code)
				w.expectAlerts("disabled openai", "resolved openai")
				require.Equal(t, 0, w.run(env, "verify").Code)
				p.stop()
				require.Equal(t, 0, w.run(env, "seed", "--migrate=check").Code)
			})
		}
	}
}

// testSearchPathTwoSchemasAreRefused has tables of the gateway's names in a
// schema before the gateway's.
func testSearchPathTwoSchemasAreRefused(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	w.migrate()
	env := w.twoProviders()
	require.Equal(t, 0, w.run(env, "seed").Code)
	w.exec(`CREATE SCHEMA mallory; CREATE TABLE mallory.ai_providers (LIKE public.ai_providers)`)
	env["DATABASE_URL"] = withPath(t, w.url, "mallory, public")
	for _, command := range []string{"run", "seed", "seed --dry-run", "verify", "status", "migrate", "migrate --dry-run", "resolve openai --take=env", "sinks list"} {
		r := w.run(env, strings.Fields(command)...)
		require.Equal(t, result{Code: 4, Stderr: "worker: the database's schema cannot be used: the table ai_providers is in several schemas of the search_path " +
			`("mallory", "public"), of which only one can be the gateway's; name it alone, by search_path=… in DATABASE_URL or by ALTER ROLE … SET search_path` + "\n"}, r, command)
	}
	env["DATABASE_URL"] = withPath(t, w.url, "public")
	require.Equal(t, 0, w.run(env, "verify").Code)
}

// testSearchPathPlantedFunctionGetsNoKey plants one function that does what the
// server's does, and keeps what it was given.
func testSearchPathPlantedFunctionGetsNoKey(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	env := w.twoProviders()
	require.Equal(t, 0, w.run(env, "migrate").Code)
	mallory, malloryURL := w.role("mallory")
	w.exec(`GRANT CREATE ON SCHEMA public TO ` + mallory)
	require.NoError(t, tryExec(t.Context(), malloryURL, `
		CREATE TABLE public.kept (who text, what text);
		GRANT INSERT ON public.kept TO PUBLIC;
		CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.kept SELECT current_user, pg_catalog.array_to_string($1, ' ');
			RETURN QUERY SELECT pg_catalog.unnest($1);
		END $$`))
	require.Equal(t, 0, w.run(env, "seed").Code)
	require.Equal(t, []string{openAIKey}, w.strings(`SELECT api_key FROM ai_provider_keys k JOIN ai_providers p ON p.id = k.provider_id WHERE name = 'openai'`))
	require.Empty(t, w.strings(`SELECT who || ' gave ' || what FROM public.kept`))
}
