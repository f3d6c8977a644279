package verify_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/atrest"
	"provwatch/internal/atrest/atresttest"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/verify"
)

func bedrock(name, accessKeySecret string) provider.Desired {
	return provider.Desired{Name: name, Type: provider.Anthropic, Variables: "X", Bedrock: &provider.Bedrock{
		Region: "us-east-1", AccessKey: secret.New("AKIA-plain"), AccessKeySecret: secret.New(accessKeySecret),
	}}
}

func TestEncryptedCredentialsAreComparedLikeOthers(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, keys := atresttest.NewKeyset(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrock("aws", "plain-1"), openAI("gpt", "key-1", "key-2")}, false, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	exec(t, pool, `INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'key-3' FROM public.ai_providers WHERE name = 'gpt'`)

	v := verify.New(pool, []provider.Desired{bedrock("aws", "plain-1"), openAI("gpt", "key-3", "key-2", "key-1")}, verify.AlertCredentials, quiet, &counter{})
	v.Decrypt(keys)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Empty(t, alerts(t, pool), "two encrypted keys and one in plain text")

	v.SetDesired([]provider.Desired{bedrock("aws", "plain-2"), openAI("gpt", "key-1", "key-2", "key-4")})
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed aws resync", "2 changed gpt resync"}, alerts(t, pool))
	fields := value(t, pool, `SELECT string_agg(fields::text, ' ' ORDER BY seq) FROM provwatch.drift_alerts`)
	require.Contains(t, fields, "2 of 2 set, 1 of 2 differ")
	require.Contains(t, fields, "3, of these 1 not in the environment")

	// Without the key, providers that have something encrypted drift, and no others.
	none, err := atrest.Load("")
	require.NoError(t, err)
	v.Decrypt(none)
	v.SetDesired([]provider.Desired{bedrock("aws", "plain-1"), openAI("gpt", "key-3", "key-2", "key-1"), openAI("new")})
	exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'new', 'https://h/')`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"3 changed aws resync", "4 changed gpt resync"}, alerts(t, pool)[2:])
	fields = value(t, pool, `SELECT string_agg(fields::text, ' ' ORDER BY seq) FROM provwatch.drift_alerts WHERE seq > 2`)
	require.Contains(t, fields, `undecodable: encrypted with key \"`+keys.Primary()+`\" (settings_key_id)`)
	require.Contains(t, fields, `2 that cannot be decrypted: encrypted with key \"`+keys.Primary()+`\" (api_key_key_id)`)
	for _, plain := range []string{"plain-", "key-1", "key-3", "AKIA"} {
		require.NotContains(t, fields, plain)
	}
}

func TestAVerifierKeepsNoCredential(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	d := bedrock("aws", "plain-secret")
	d.Keys = openAI("x", "key-1").Keys
	for _, mode := range []verify.CredentialMode{verify.IgnoreCredentials, verify.WarnCredentials, verify.AlertCredentials} {
		v := verify.New(pool, []provider.Desired{d}, mode, quiet, &counter{})
		kept, named := v.Named("aws")
		require.True(t, named)
		require.Equal(t, d.Canonical(), kept.Canonical())
		if mode == verify.IgnoreCredentials {
			require.Empty(t, kept.Keys)
			require.True(t, kept.Bedrock.AccessKey.IsZero() && kept.Bedrock.AccessKeySecret.IsZero())
			continue
		}
		again, _ := verify.New(pool, []provider.Desired{d}, mode, quiet, &counter{}).Named("aws")
		for i, digest := range append(kept.Keys, kept.Bedrock.AccessKey, kept.Bedrock.AccessKeySecret) {
			require.Len(t, digest.Reveal(), 32)
			require.False(t, strings.Contains(digest.Reveal(), "plain") || strings.Contains(digest.Reveal(), "key"))
			other := append(again.Keys, again.Bedrock.AccessKey, again.Bedrock.AccessKeySecret)[i]
			require.False(t, digest.Equal(other), "the digests of another process are others")
		}
	}
	require.Equal(t, "key-1", d.Keys[0].Reveal(), "what was handed over stays as it was")
	require.Equal(t, "plain-secret", d.Bedrock.AccessKeySecret.Reveal())
}

func value(t *testing.T, pool *pgxpool.Pool, query string) (text string) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), query).Scan(&text))
	return text
}
