package schema_test

import (
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/schema"
)

// TestMigratedBefore asks for triggers and a publication as a worker does that runs, and has
// migrated at its boot.
func TestMigratedBefore(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	needs := schema.Needs{Triggers: true, Publication: true, Migrated: true}
	ensure := func() error {
		return schema.Ensure(t.Context(), pool, schema.Auto, needs, slog.New(slog.DiscardHandler))
	}
	require.NoError(t, ensure(), "both are made where the schema is there")
	exec := func(statements string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), statements, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}

	objects := func() (names []string) {
		t.Helper()
		rows, err := pool.Query(t.Context(), `SELECT n.nspname || '.' || coalesce(c.relname, '') FROM pg_catalog.pg_namespace n
			LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid WHERE n.nspname IN ('public', 'provwatch') ORDER BY 1`)
		require.NoError(t, err)
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return names
	}
	for _, drop := range []string{
		`DELETE FROM provwatch.schema_migrations WHERE version_id = (SELECT max(version_id) FROM provwatch.schema_migrations)`,
		`DROP SCHEMA provwatch CASCADE`,
		`DROP TABLE public.ai_provider_keys, public.ai_providers, public.dbcrypt_keys; DROP TYPE public.ai_provider_type`,
	} {
		exec(drop)
		before := objects()
		// The second one is what it comes to when it is dropped after the first look.
		_, _, migrating := schema.Migrate(t.Context(), config.ConnConfig, needs)
		for _, err := range []error{ensure(), migrating} {
			var unusable *schema.UnusableError
			require.ErrorAs(t, err, &unusable, drop)
			require.ErrorContains(t, err, "the schema provwatch was dropped, or is being restored", drop)
		}
		require.Equal(t, before, objects(), "nothing is made")
	}
}
