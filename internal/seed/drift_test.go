package seed_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/seed"
)

func TestSeedDrift(t *testing.T) {
	t.Parallel()
	t.Run("NamesAllAndWritesNothing", testSeedDriftNamesAllAndWritesNothing)
	t.Run("UndecodableRow", testSeedDriftUndecodableRow)
	t.Run("SoftDeleted", testSeedDriftSoftDeleted)
	t.Run("Accepted", testSeedDriftAccepted)
}

func testSeedDriftNamesAllAndWritesNothing(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("a", "https://a/"), bedrockIn("b", "us-east-1"), openAI("c", "https://c/")}, false, quiet)
	require.NoError(t, err)
	before := contents(t, pool)
	seeded := listen(t, config, pubsub.Seeds)

	plan, err := seed.Seed(t.Context(), pool, []provider.Desired{
		openAI("a", "https://user:pw@other/"), bedrockIn("b", "eu-west-1"), openAI("c", "https://c/"), openAI("new", "https://new/", "key"),
	}, false, quiet)
	var drifted *seed.DriftError
	require.ErrorAs(t, err, &drifted)
	require.True(t, drifted.Comparable())
	require.Equal(t, 2, plan.Count(drift.ActionDrifted))
	message := err.Error()
	for _, want := range []string{
		`AI provider "a" already exists in the database and differs from the current environment configuration`,
		`AI provider "b" already exists in the database and differs from the current environment configuration`,
		`base_url (environment "https://other/", database "https://a/")`,
		`bedrock_region (environment "eu-west-1", database "us-east-1")`,
		`worker resolve a --take env`, `worker resolve a --take db`, `worker resolve b --take db`,
	} {
		require.Contains(t, message, want)
	}
	require.NotContains(t, message, "pw")
	require.Equal(t, before, contents(t, pool), "nothing of this boot is written")
	require.Empty(t, seeded())

	plan, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("a", "https://other/"), openAI("new", "https://new/", "key")}, true, quiet)
	require.NoError(t, err, "drift is tolerated")
	require.Equal(t, 1, plan.Count(drift.ActionInsert))
	require.Equal(t, []string{"https://a/", "https://new/"}, lines(t, pool, `SELECT base_url FROM public.ai_providers WHERE name IN ('a', 'new') ORDER BY 1`))
}

// testSeedDriftUndecodableRow checks that a row that cannot be decoded is an error for its
// provider alone, and never equal.
func testSeedDriftUndecodableRow(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"not JSON":                "not json, and a secret",
		"another version":         `{"_type":"bedrock","_version":2,"region":"us-east-1"}`,
		"an unknown type":         `{"_type":"vertex","_version":1}`,
		"a region with a NUL":     `{"_type":"bedrock","_version":1,"region":"us\u0000"}`,
		"the wrong type of value": `{"_type":"bedrock","_version":1,"region":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, _ := pgtest.NewPool(t)
			_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, settings) VALUES
				(gen_random_uuid(), 'anthropic', 'broken', 'https://h/', $1),
				(gen_random_uuid(), 'openai', 'without', 'https://h/', $1),
				(gen_random_uuid(), 'anthropic', 'not-ours', 'https://h/', $1)`, settings)
			require.NoError(t, err)
			before := contents(t, pool)
			desired := []provider.Desired{anthropic("broken", "https://h/"), openAI("new", "https://h/"), openAI("without", "https://h/")}
			_, err = seed.Seed(t.Context(), pool, desired, false, quiet)
			var drifted *seed.DriftError
			require.ErrorAs(t, err, &drifted)
			require.False(t, drifted.Comparable())
			require.Len(t, drifted.Steps, 1, "the hash of the type openai needs no settings")
			require.Contains(t, err.Error(), `AI provider "broken" already exists in the database and cannot be compared`)
			require.NotContains(t, err.Error(), "secret")
			require.NotContains(t, err.Error(), "not-ours")
			require.Equal(t, before, contents(t, pool))
		})
	}
	t.Run("an unknown key id", func(t *testing.T) {
		t.Parallel()
		pool, _ := pgtest.NewPool(t)
		_, err := pool.Exec(t.Context(), `INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES (1, 'key-7', '')`)
		require.NoError(t, err)
		_, err = pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, settings, settings_key_id) VALUES
			(gen_random_uuid(), 'anthropic', 'broken', 'https://h/', 'ciphertext', 'key-7'),
			(gen_random_uuid(), 'openai', 'without', 'https://h/', 'ciphertext', 'key-7')`)
		require.NoError(t, err)
		_, err = seed.Seed(t.Context(), pool, []provider.Desired{anthropic("broken", "https://h/"), openAI("without", "https://h/")}, false, quiet)
		require.Len(t, err.(*seed.DriftError).Steps, 1)
		require.ErrorIs(t, err.(*seed.DriftError).Steps[0].Observation.Unreadable, dbcrypt.ErrUnknownKey)
	})
}

// testSeedDriftSoftDeleted checks that a soft-deleted row stays unchanged, and that a live
// row beats it.
func testSeedDriftSoftDeleted(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, deleted) VALUES
		(gen_random_uuid(), 'openai', 'gone', 'https://h/', true),
		(gen_random_uuid(), 'openai', 'gone', 'https://older/', true),
		(gen_random_uuid(), 'openai', 'back', 'https://old/', true),
		(gen_random_uuid(), 'openai', 'back', 'https://h/', false)`)
	require.NoError(t, err)
	rows := lines(t, pool, `SELECT to_jsonb(r)::text FROM public.ai_providers r ORDER BY id`)
	for range 2 {
		plan, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("back", "https://h/"), openAI("gone", "https://h/", "key")}, false, quiet)
		require.NoError(t, err)
		require.Equal(t, drift.ActionUnchanged, plan.Steps[0].Action)
		require.Equal(t, drift.ActionStickyDeleted, plan.Steps[1].Action)
		require.Equal(t, rows, lines(t, pool, `SELECT to_jsonb(r)::text FROM public.ai_providers r ORDER BY id`))
		require.Empty(t, lines(t, pool, `SELECT id::text FROM public.ai_provider_keys UNION ALL SELECT id::text FROM provwatch.audit_outbox`))
	}
}

// testSeedDriftAccepted checks that an accepted drift holds only while both hashes stay as
// they were.
func testSeedDriftAccepted(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://h/")}, false, quiet)
	require.NoError(t, err)
	env, db := openAI("gpt", "https://env/").Canonical().Hash(), openAI("gpt", "https://h/").Canonical().Hash()
	_, err = pool.Exec(t.Context(), `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		VALUES ('gpt', 'changed', $1, $2, 'test')`, env, db)
	require.NoError(t, err)

	plan, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://env/")}, false, quiet)
	require.NoError(t, err)
	require.Equal(t, drift.ActionAccepted, plan.Steps[0].Action)

	// An end holds the acceptance until then.
	for until, lasts := range map[string]bool{"now() + interval '1 hour'": true, "now()": false, "NULL": true} {
		_, err = pool.Exec(t.Context(), `UPDATE provwatch.accepted_drift SET expires_at = `+until)
		require.NoError(t, err)
		_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://env/")}, false, quiet)
		require.Equal(t, lasts, err == nil, "%s: %v", until, err)
	}
	_, err = pool.Exec(t.Context(), `UPDATE provwatch.accepted_drift SET expires_at = NULL`)
	require.NoError(t, err)

	_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://env-2/")}, false, quiet)
	require.Error(t, err, "the environment changed")
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://db-2/'`)
	require.NoError(t, err)
	_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://env/")}, false, quiet)
	require.Error(t, err, "the database changed")
	require.True(t, strings.Contains(err.Error(), `"https://db-2/"`))
}
