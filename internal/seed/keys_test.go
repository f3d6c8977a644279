package seed_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/seed"
	"provwatch/internal/store"
)

// opened returns the secrets that are stored, decrypted by the independent reader.
func opened(t *testing.T, pool *pgxpool.Pool, key dbcrypttest.Key) (plain []string) {
	t.Helper()
	for _, stored := range lines(t, pool, `
		SELECT settings FROM public.ai_providers WHERE settings IS NOT NULL UNION ALL SELECT api_key FROM public.ai_provider_keys`) {
		text, err := key.Decrypt(stored)
		require.NoError(t, err)
		plain = append(plain, text)
	}
	return plain
}

func TestSeedKeys(t *testing.T) {
	t.Parallel()
	t.Run("ActiveKey", testSeedKeysActiveKey)
	t.Run("MissingKey", testSeedKeysMissingKey)
}

// testSeedKeysActiveKey checks that a seed encrypts with the active key and finds its rows
// unchanged.
func testSeedKeysActiveKey(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	notActive, key := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	keys := dbcrypttest.NewRing(t, notActive, key)
	dbcrypttest.Register(t, pool, key)
	desired := []provider.Desired{bedrockIn("aws", "us-east-1"), openAI("gpt", "https://h/", "sk-first", "sk-second")}
	for i, action := range []drift.Action{drift.ActionInsert, drift.ActionUnchanged} {
		plan, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(keys))
		require.NoError(t, err)
		require.Equal(t, 2, plan.Count(action), "seed %d", i)
	}
	for _, row := range contents(t, pool) {
		for _, plain := range []string{"AKIA-test", "aws-secret", "sk-first", "sk-second", "_type"} {
			require.NotContains(t, row, plain)
		}
	}
	require.Equal(t, []string{key.Digest(), key.Digest(), key.Digest()}, lines(t, pool, `
		SELECT settings_key_id FROM public.ai_providers WHERE settings IS NOT NULL UNION ALL SELECT api_key_key_id FROM public.ai_provider_keys`))
	require.Equal(t, []string{"gpt"}, lines(t, pool, `SELECT name FROM public.ai_providers WHERE settings IS NULL AND settings_key_id IS NULL`))
	require.ElementsMatch(t, []string{desired[0].Settings().Reveal(), "sk-first", "sk-second"}, opened(t, pool, key))

	// Encrypted settings are compared like others.
	plan, err := seed.DryRun(t.Context(), pool, []provider.Desired{bedrockIn("aws", "eu-west-1")}, seed.WithKeys(keys))
	require.NoError(t, err)
	require.Equal(t, drift.ActionDrifted, plan.Steps[0].Action)
	require.Equal(t, []drift.Field{{Name: "bedrock_region", Env: "eu-west-1", DB: "us-east-1"}}, plan.Steps[0].Observation.Fields)
	// So are credentials.
	other := openAI("gpt", "https://h/", "sk-second", "sk-third")
	plan, err = seed.DryRun(t.Context(), pool, []provider.Desired{bedrockIn("aws", "us-east-1"), other}, seed.RequireCredentials(), seed.WithKeys(keys))
	require.NoError(t, err)
	require.Empty(t, plan.Steps[0].Observation.Fields)
	require.Equal(t, "api_keys: env 2, of these 1 not in the database; db 2, of these 1 not in the environment", plan.Steps[1].Observation.Credentials)
}

// testSeedKeysMissingKey checks that a missing key is an error for its provider alone,
// while the others are seeded.
func testSeedKeysMissingKey(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, first, second)
	keys := dbcrypttest.NewRing(t, second)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrockIn("aws", "us-east-1")}, false, quiet, seed.WithKeys(dbcrypttest.NewRing(t, first)))
	require.NoError(t, err)

	desired := []provider.Desired{bedrockIn("aws", "us-east-1"), bedrockIn("new", "us-east-1")}
	_, err = seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(keys))
	var drifted *seed.DriftError
	require.ErrorAs(t, err, &drifted)
	require.False(t, drifted.Comparable())
	require.Len(t, drifted.Steps, 1)
	require.ErrorIs(t, drifted.Steps[0].Observation.Unreadable, dbcrypt.ErrUnknownKey)
	require.ErrorContains(t, err, `AI provider "aws" already exists in the database and cannot be compared: encrypted with key `+first.Digest()+`, which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS`)

	plan, err := seed.Seed(t.Context(), pool, desired, true, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	require.Equal(t, []drift.Action{drift.ActionNotComparable, drift.ActionInsert}, []drift.Action{plan.Steps[0].Action, plan.Steps[1].Action})
	require.Equal(t, map[string]string{"aws": "encrypted with key " + first.Digest() + ", which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS"}, plan.NotComparable(false))
	require.Equal(t, []string{"aws " + first.Digest(), "new " + second.Digest()}, lines(t, pool, `SELECT name || ' ' || settings_key_id FROM public.ai_providers ORDER BY name`))

	// Of a row in plain text nothing is missing.
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET settings = '{"_type":"bedrock","_version":1,"region":"us-east-1"}', settings_key_id = NULL WHERE name = 'aws'`)
	require.NoError(t, err)
	plan, err = seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	require.Equal(t, 2, plan.Count(drift.ActionUnchanged))
}

// TestRegister registers a key where provwatch made the tables, once.
func TestRegister(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key, next := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	registered := func(keys ...dbcrypttest.Key) string {
		digest, err := store.On(pool).RegisterKey(t.Context(), dbcrypttest.NewRing(t, keys...))
		require.NoError(t, err)
		return digest
	}
	require.Empty(t, registered())
	digest, insertable, err := store.On(pool).UnregisteredKey(t.Context(), dbcrypttest.NewRing(t, key))
	require.NoError(t, err)
	require.Equal(t, []any{key.Digest(), true}, []any{digest, insertable})
	require.Equal(t, key.Digest(), registered(key))
	require.Empty(t, registered(key))
	require.Equal(t, next.Digest(), registered(next, key))
	require.Equal(t, []string{"1 " + key.Digest(), "2 " + next.Digest()}, lines(t, pool, `SELECT number || ' ' || active_key_digest FROM public.dbcrypt_keys ORDER BY number`))
	for i, key := range []dbcrypttest.Key{key, next} {
		word, err := key.Decrypt(lines(t, pool, `SELECT test FROM public.dbcrypt_keys ORDER BY number`)[i])
		require.NoError(t, err)
		require.Equal(t, "coder", word)
	}
	// One that was revoked stays so.
	_, err = pool.Exec(t.Context(), `UPDATE public.dbcrypt_keys SET active_key_digest = NULL, revoked_key_digest = active_key_digest, revoked_at = now() WHERE number = 2`)
	require.NoError(t, err)
	require.Empty(t, registered(next))
	// Tables that another program made are left to it.
	_, err = pool.Exec(t.Context(), `DELETE FROM provwatch.schema_migrations WHERE version_id = 1`)
	require.NoError(t, err)
	require.Empty(t, registered(dbcrypttest.NewKey()))
}
