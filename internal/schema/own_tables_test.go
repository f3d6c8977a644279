package schema_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// TestOwnProviderTables writes to the tables that provwatch makes where there is no gateway:
// what they refuse, what they fill in, and what goes with a row
// (docs/specification.md, section 3).
func TestOwnProviderTables(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	exec := func(query string) error {
		_, err := pool.Exec(t.Context(), query)
		return err
	}
	const provider = `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES `
	const one = `'00000000-0000-0000-0000-000000000001'`
	require.NoError(t, exec(provider+`(`+one+`, 'openai', 'a-1', '')`))
	require.NoError(t, exec(`INSERT INTO public.ai_provider_keys (id, provider_id, api_key) VALUES (gen_random_uuid(), `+one+`, 'made-up')`))
	require.NoError(t, exec(`INSERT INTO public.ai_providers (id, type, name, base_url, deleted) SELECT gen_random_uuid(), 'anthropic', 'a-1', '', true FROM generate_series(1, 2)`),
		"soft-deleted rows may have the name of another")

	for name, c := range map[string]struct{ query, code string }{
		"a second live row of a name":    {provider + `(gen_random_uuid(), 'anthropic', 'a-1', '')`, "23505"},
		"a name in capitals":             {provider + `(gen_random_uuid(), 'openai', 'A', '')`, "23514"},
		"a name with two hyphens":        {provider + `(gen_random_uuid(), 'openai', 'a--b', '')`, "23514"},
		"an empty name":                  {provider + `(gen_random_uuid(), 'openai', '', '')`, "23514"},
		"a type that the enum lacks":     {provider + `(gen_random_uuid(), 'azure', 'b', '')`, "22P02"},
		"no base URL":                    {provider + `(gen_random_uuid(), 'openai', 'b', NULL)`, "23502"},
		"an unknown key of settings":     {`UPDATE public.ai_providers SET settings_key_id = 'a1b2c3d'`, "23503"},
		"an unknown key of an API key":   {`UPDATE public.ai_provider_keys SET api_key_key_id = 'a1b2c3d'`, "23503"},
		"an API key of no provider":      {`INSERT INTO public.ai_provider_keys (id, provider_id, api_key) VALUES (gen_random_uuid(), gen_random_uuid(), 'made-up')`, "23503"},
		"an encryption key without test": {`INSERT INTO public.dbcrypt_keys (number, active_key_digest) VALUES (1, 'a1b2c3d')`, "23502"},
		"two encryption keys of a digest": {`INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES
			(1, 'a1b2c3d', ''), (2, 'a1b2c3d', '')`, "23505"},
	} {
		var refused *pgconn.PgError
		require.ErrorAs(t, exec(c.query), &refused, name)
		require.Equal(t, c.code, refused.Code, name)
	}

	var row string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT jsonb_build_array(enabled, deleted, display_name, settings, settings_key_id,
		created_at <= now(), updated_at <= now())::text FROM public.ai_providers WHERE id = `+one).Scan(&row))
	require.Equal(t, `[true, false, null, null, null, true, true]`, row)
	require.NoError(t, exec(`DELETE FROM public.ai_providers WHERE id = `+one))
	var keys int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM public.ai_provider_keys`).Scan(&keys))
	require.Zero(t, keys, "the keys of a provider go with it")
}
