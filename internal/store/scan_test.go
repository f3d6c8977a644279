package store_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/store"
	sqlfiles "provwatch/sql"
)

// TestScanEnabled scans the rows that an environment names and the enabled ones of other names, of which it
// reads no setting: these can hold credentials.
func TestScanEnabled(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, settings, enabled, deleted)
		SELECT gen_random_uuid(), 'anthropic', name, 'https://h/', '{}', enabled, deleted
		FROM (VALUES ('named', true, false), ('named', false, true), ('rogue', true, false), ('off', false, false), ('removed', true, true)) AS new (name, enabled, deleted)`)
	require.NoError(t, err)
	rows, err := store.Gateway(pool).Query(t.Context(), `SELECT concat_ws(' ', name, enabled, deleted, base_url, settings) FROM (`+sqlfiles.ScanEnabledProviders+`
		) AS scanned (generation, newest, id, name, type, base_url, enabled, deleted, settings, settings_key_id) ORDER BY 1`, []string{"absent", "named"})
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"named f t https://h/ {}", "named t f https://h/ {}", "rogue t f"}, list)
}
