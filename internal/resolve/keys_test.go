package resolve_test

import (
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/atrest"
	"provwatch/internal/atrest/atresttest"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/resolve"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
)

// storedBedrock returns the settings of the one row that there is.
func storedBedrock(t *testing.T, pool *pgxpool.Pool, keys *atrest.Keyset) *provider.Bedrock {
	t.Helper()
	var id uuid.UUID
	var stored secret.Text
	var keyID string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT id, settings, settings_key_id FROM public.ai_providers`).Scan(&id, &stored, &keyID))
	require.Equal(t, keys.Primary(), keyID)
	decoded, err := keys.OpenSettings(id, stored, keyID)
	require.NoError(t, err)
	return decoded
}

func TestTakingTheEnvironmentKeepsEncryptedCredentialsAndEncryptsWhatItWrites(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, keys := atresttest.NewKeyset(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrock("us-east-1")}, false, slog.New(slog.DiscardHandler), seed.WithKeys(keys))
	require.NoError(t, err)

	rotated := bedrock("eu-west-1")
	rotated.Bedrock.AccessKeySecret = secret.New("of another environment")
	outcome, err := resolve.TakeEnv(t.Context(), pool, keys, rotated, false, false, "operator:test")
	require.NoError(t, err)
	require.Equal(t, provider.Changed, outcome.Kind)
	stored := storedBedrock(t, pool, keys)
	require.Equal(t, []string{"eu-west-1", "environment"}, []string{stored.Region, stored.AccessKeySecret.Reveal()}, "the stored credentials are kept")

	outcome, err = resolve.TakeEnv(t.Context(), pool, keys, rotated, true, false, "operator:test")
	require.NoError(t, err)
	require.Equal(t, "bedrock_credentials", outcome.Fields[0].Name)
	require.Equal(t, "of another environment", storedBedrock(t, pool, keys).AccessKeySecret.Reveal())
	outcome, err = resolve.TakeEnv(t.Context(), pool, keys, rotated, true, false, "operator:test")
	require.NoError(t, err)
	require.Equal(t, provider.InSync, outcome.Kind)

	// Without the key nothing is discarded unless that is asked for.
	_, other := atresttest.NewKeyset(t)
	_, err = resolve.TakeEnv(t.Context(), pool, other, bedrock("ap-east-1"), false, false, "operator:test")
	require.ErrorIs(t, err, atrest.ErrUnknownKey)
	require.ErrorContains(t, err, "what they hold would be lost")
	_, err = resolve.TakeDB(t.Context(), pool, other, bedrock("ap-east-1"), false, "operator:test")
	require.ErrorIs(t, err, atrest.ErrUnknownKey)
	_, err = resolve.TakeEnv(t.Context(), pool, other, bedrock("ap-east-1"), true, false, "operator:test")
	require.ErrorIs(t, err, atrest.ErrUnknownKey, "what cannot be read is not overwritten either")
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET settings = NULL, settings_key_id = NULL`)
	require.NoError(t, err)
	_, err = resolve.TakeEnv(t.Context(), pool, other, bedrock("ap-east-1"), true, false, "operator:test")
	require.NoError(t, err)
	require.Equal(t, "ap-east-1", storedBedrock(t, pool, other).Region)
}

func TestEncryptedSecretsAreNotReplacedByPlainTextForLackOfAKeyset(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, keys := atresttest.NewKeyset(t)
	openai := func(baseURL, key string) provider.Desired {
		return provider.Desired{Name: "openai", Type: provider.OpenAI, BaseURL: baseURL, Keys: []secret.Text{secret.New(key)}}
	}
	desired := []provider.Desired{bedrock("us-east-1"), openai("https://h/", "sk-stored")}
	_, err := seed.Seed(t.Context(), pool, desired, false, slog.New(slog.DiscardHandler), seed.WithKeys(keys))
	require.NoError(t, err)
	_, err = resolve.TakeEnv(t.Context(), pool, plainText(t), bedrock("eu-west-1"), true, false, "operator:test")
	require.ErrorContains(t, err, "start it with the --keyset that holds the key")
	_, err = resolve.TakeEnv(t.Context(), pool, plainText(t), openai("https://h/", "sk-other"), true, false, "operator:test")
	require.ErrorContains(t, err, "would be replaced by plain text: give the --keyset")
	// What leaves them alone needs no keyset.
	_, err = resolve.TakeEnv(t.Context(), pool, plainText(t), openai("https://other/", "sk-other"), false, false, "operator:test")
	require.NoError(t, err)
	var encrypted int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM public.ai_providers WHERE settings_key_id = $1) +
		(SELECT count(*) FROM public.ai_provider_keys WHERE api_key_key_id = $1)`, keys.Primary()).Scan(&encrypted))
	require.Equal(t, 2, encrypted)
}

func TestADriftOfCredentialsThatMustAgreeCannotBeAccepted(t *testing.T) {
	t.Parallel()
	_, keys := atresttest.NewKeyset(t)
	_, other := atresttest.NewKeyset(t)
	stored := provider.Desired{Name: "gpt", Type: provider.OpenAI, BaseURL: "https://h/", Variables: "X", Keys: []secret.Text{secret.New("k")}}
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{stored}, false, slog.New(slog.DiscardHandler), seed.WithKeys(keys))
	require.NoError(t, err)

	desired := stored
	desired.BaseURL = "https://env/"
	takeDB := func(k *atrest.Keyset) (resolve.Outcome, error) {
		return resolve.TakeDB(t.Context(), pool, k, desired, false, "operator:test", seed.RequireCredentials())
	}
	_, err = takeDB(other)
	require.ErrorContains(t, err, "its credentials cannot be compared: ")
	desired.Keys = []secret.Text{secret.New("rotated")}
	_, err = takeDB(keys)
	require.ErrorContains(t, err, "its credentials differ: ")
	require.ErrorContains(t, err, "use --take env --with-keys")
	var accepted int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM provwatch.accepted_drift`).Scan(&accepted))
	require.Zero(t, accepted)
	// What agrees does not stand in the way.
	desired.Keys = stored.Keys
	outcome, err := takeDB(keys)
	require.NoError(t, err)
	require.Equal(t, provider.Changed, outcome.Kind)
}
