package seed_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/atrest"
	"provwatch/internal/atrest/atresttest"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/seed"
)

// opened returns the secrets that are stored, decrypted.
func opened(t *testing.T, pool *pgxpool.Pool, keys *atrest.Keyset) (settings []*provider.Bedrock, apiKeys []string) {
	t.Helper()
	plan, err := seed.MakePlan(t.Context(), pool, []provider.Desired{openAI("gpt", ""), bedrockIn("aws", "")}, true, seed.WithKeys(keys))
	require.NoError(t, err)
	for _, step := range plan.Steps {
		for _, key := range step.Row.Keys {
			require.Empty(t, key.KeyID)
			apiKeys = append(apiKeys, key.Key.Reveal())
		}
		if step.Row.SettingsKeyID != "" {
			decoded, err := keys.OpenSettings(step.Row.ID, step.Row.Settings, step.Row.SettingsKeyID)
			require.NoError(t, err)
			settings = append(settings, decoded)
		}
	}
	return settings, apiKeys
}

func TestASeedWithAKeysetStoresNoPlainTextAndFindsItsRowsUnchanged(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, keys := atresttest.NewKeyset(t)
	desired := []provider.Desired{bedrockIn("aws", "us-east-1"), openAI("gpt", "https://h/", "sk-first", "sk-second")}
	for i, action := range []seed.Action{seed.Insert, seed.Unchanged} {
		plan, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(keys))
		require.NoError(t, err)
		require.Equal(t, 2, plan.Count(action), "seed %d", i)
	}
	for _, row := range contents(t, pool) {
		for _, plain := range []string{"AKIA-test", "aws-secret", "sk-first", "sk-second", "_type"} {
			require.NotContains(t, row, plain)
		}
	}
	require.Equal(t, []string{keys.Primary(), keys.Primary(), keys.Primary()}, lines(t, pool, `
		SELECT settings_key_id FROM public.ai_providers WHERE settings IS NOT NULL UNION ALL SELECT api_key_key_id FROM public.ai_provider_keys`))
	require.Equal(t, []string{"gpt"}, lines(t, pool, `SELECT name FROM public.ai_providers WHERE settings IS NULL AND settings_key_id IS NULL`))
	settings, apiKeys := opened(t, pool, keys)
	require.ElementsMatch(t, []string{"sk-first", "sk-second"}, apiKeys)
	require.Len(t, settings, 1)
	require.Equal(t, "aws-secret", settings[0].AccessKeySecret.Reveal())

	// Encrypted settings are compared like others.
	plan, err := seed.MakePlan(t.Context(), pool, []provider.Desired{bedrockIn("aws", "eu-west-1")}, false, seed.WithKeys(keys))
	require.NoError(t, err)
	require.Equal(t, seed.Drifted, plan.Steps[0].Action)
	require.Equal(t, []provider.Field{{Name: "bedrock_region", Env: "eu-west-1", DB: "us-east-1"}}, plan.Steps[0].Observation.Fields)
	// So are credentials.
	other := openAI("gpt", "https://h/", "sk-second", "sk-third")
	plan, err = seed.MakePlan(t.Context(), pool, []provider.Desired{bedrockIn("aws", "us-east-1"), other}, true, seed.WithKeys(keys))
	require.NoError(t, err)
	require.Empty(t, plan.Steps[0].Observation.Fields)
	require.Equal(t, "api_keys: env 2, of these 1 not in the database; db 2, of these 1 not in the environment", plan.Steps[1].Observation.Credentials)
}

func TestAKeyThatIsMissingIsAnErrorForItsProviderAloneWhileOthersAreSeeded(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, first := atresttest.NewKeyset(t)
	_, second := atresttest.NewKeyset(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrockIn("aws", "us-east-1")}, false, quiet, seed.WithKeys(first))
	require.NoError(t, err)

	desired := []provider.Desired{bedrockIn("aws", "us-east-1"), bedrockIn("new", "us-east-1")}
	_, err = seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(second))
	var drift *seed.DriftError
	require.ErrorAs(t, err, &drift)
	require.False(t, drift.Drifted())
	require.Len(t, drift.Steps, 1)
	require.ErrorIs(t, drift.Steps[0].Observation.Undecodable, atrest.ErrUnknownKey)
	require.ErrorContains(t, err, `AI provider "aws" already exists in the database and cannot be compared`)
	require.ErrorContains(t, err, `encrypted with key "`+first.Primary()+`" (settings_key_id)`)

	plan, err := seed.Seed(t.Context(), pool, desired, true, quiet, seed.WithKeys(second))
	require.NoError(t, err)
	require.Equal(t, []seed.Action{seed.Undecodable, seed.Insert}, []seed.Action{plan.Steps[0].Action, plan.Steps[1].Action})
	require.Equal(t, []string{"aws " + first.Primary(), "new " + second.Primary()}, lines(t, pool, `SELECT name || ' ' || settings_key_id FROM public.ai_providers ORDER BY name`))

	// Of a row in plain text nothing is missing.
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET settings = '{"_type":"bedrock","_version":1,"region":"us-east-1"}', settings_key_id = NULL WHERE name = 'aws'`)
	require.NoError(t, err)
	plan, err = seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(second))
	require.NoError(t, err)
	require.Equal(t, 2, plan.Count(seed.Unchanged))
}

func TestSettingsMovedFromAnotherRowAreNeverTakenForEqual(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, keys := atresttest.NewKeyset(t)
	desired := []provider.Desired{bedrockIn("a", "us-east-1"), bedrockIn("b", "us-east-1")}
	_, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET settings = (SELECT settings FROM public.ai_providers WHERE name = 'b') WHERE name = 'a'`)
	require.NoError(t, err)
	plan, err := seed.MakePlan(t.Context(), pool, desired, false, seed.WithKeys(keys))
	require.NoError(t, err)
	require.Equal(t, []seed.Action{seed.Undecodable, seed.Unchanged}, []seed.Action{plan.Steps[0].Action, plan.Steps[1].Action})
	require.ErrorIs(t, plan.Steps[0].Observation.Undecodable, atrest.ErrNotDecrypted)
}
