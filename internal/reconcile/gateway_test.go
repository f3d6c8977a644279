package reconcile_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// storedProvider is a row that a gateway can have, by the columns and keys of which a
// resolving depends.
type storedProvider struct {
	kind, baseURL, settings string
	keys                    []string
}

// storedProviders are rows of each type that the gateway can decode.
func storedProviders() map[string]storedProvider {
	const aws = `{"_type":"bedrock","_version":1,"model":"arn:a","region":"us-east-1","small_fast_model":"arn:b"}`
	withRole := strings.Replace(aws, `,"small_fast`, `,"role_arn":"arn:aws:iam::123456789012:role/B","small_fast`, 1)
	withPair := strings.Replace(aws, `"model"`, `"access_key":"AKIA","access_key_secret":"stored","model"`, 1)
	return map[string]storedProvider{
		"openai":                {kind: "openai", baseURL: "", keys: []string{"k1"}},
		"openai without keys":   {kind: "openai", baseURL: "https://h/"},
		"anthropic":             {kind: "anthropic", baseURL: "https://h/", keys: []string{"k1", "k9"}},
		"anthropic on AWS":      {kind: "anthropic", settings: aws},
		"bedrock":               {kind: "bedrock", settings: aws},
		"bedrock by role":       {kind: "bedrock", settings: withRole},
		"bedrock by keys":       {kind: "bedrock", settings: withPair, baseURL: "https://bedrock/"},
		"bedrock, no settings":  {kind: "bedrock"},
		"bedrock, null":         {kind: "bedrock", settings: "null"},
		"copilot":               {kind: "copilot", baseURL: "https://copilot/"},
		"compat with headers":   {kind: "openai-compat", baseURL: "https://h/", settings: `{"_type":"upstream-headers","_version":1,"headers":{"x":"y"}}`, keys: []string{"k1"}},
		"azure, five keys":      {kind: "azure", baseURL: "https://h/", keys: []string{"k5", "k6", "k7", "k8", "k9"}},
		"google, one key twice": {kind: "google", baseURL: "https://h/", keys: []string{"k1", "k1"}},
	}
}

// desiredProviders are what environments can ask for, of each type, with and
// without credentials.
func desiredProviders() map[string]provider.Desired {
	keys := func(n int) (list []secret.Text) {
		for i := range n {
			list = append(list, secret.New(fmt.Sprintf("k%d", i+1)))
		}
		return list
	}
	pair := func(b provider.Bedrock) *provider.Bedrock {
		b.AccessKey, b.AccessKeySecret = secret.New("AKIA-env"), secret.New("secret-env")
		return &b
	}
	aws := provider.Bedrock{Region: "eu-west-1", Model: "m", SmallFastModel: "s"}
	list := map[string]provider.Desired{
		"openai":                {Type: provider.OpenAI},
		"anthropic":             {Type: provider.Anthropic, BaseURL: "https://env/", Keys: keys(1)},
		"anthropic on AWS":      {Type: provider.Anthropic, Bedrock: &aws},
		"anthropic on AWS, IAM": {Type: provider.Anthropic, Bedrock: pair(aws)},
		"bedrock":               {Type: provider.AmazonBedrock, Bedrock: &aws},
		"bedrock by keys":       {Type: provider.AmazonBedrock, Bedrock: pair(aws), BaseURL: "https://env/"},
		"bedrock by URL":        {Type: provider.AmazonBedrock, Bedrock: &provider.Bedrock{Model: "m", SmallFastModel: "s"}, BaseURL: "https://env/"},
		"copilot":               {Type: provider.Copilot, BaseURL: "https://env/"},
	}
	for _, kind := range []provider.Type{provider.Azure, provider.Google, provider.OpenAICompat, provider.OpenRouter, provider.Vercel} {
		list[string(kind)] = provider.Desired{Type: kind, BaseURL: "https://env/", Keys: keys(5)}
	}
	return list
}

// storeOnly makes the row the only one, called p.
func storeOnly(t *testing.T, pool *pgxpool.Pool, row storedProvider, deleted bool) {
	t.Helper()
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := pool.Exec(context.WithoutCancel(t.Context()), query, args...)
		require.NoError(t, err)
	}
	exec(`DELETE FROM public.ai_providers`)
	if row.kind == "" {
		return
	}
	exec(`INSERT INTO public.ai_providers (id, type, name, base_url, settings, icon, enabled, deleted)
		VALUES (gen_random_uuid(), $1::text::public.ai_provider_type, 'p', $2, nullif($3, ''), '/icon.svg', NOT $4, $4)`,
		row.kind, row.baseURL, row.settings, deleted)
	for _, key := range row.keys {
		exec(`INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $1 FROM public.ai_providers`, key)
	}
}

func TestKeyRows(t *testing.T) {
	t.Parallel()
	t.Run("TypeWithoutKeys", testKeyRowsTypeWithoutKeys)
	t.Run("AtMostFive", testKeyRowsAtMostFive)
}

// testKeyRowsTypeWithoutKeys has rows with API keys that become a provider's that has
// none.
func testKeyRowsTypeWithoutKeys(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewGatewayPool(t)
	desired := desiredProviders()
	resolved := func(to string, withKeys bool) error {
		t.Helper()
		storeOnly(t, pool, storedProviders()["anthropic"], false)
		d := desired[to]
		d.Name, d.Variables = "p", "X"
		_, err := takeEnv(t.Context(), pool, nil, d, withKeys, drift.IgnoreCredentials)
		return err
	}
	count := func() string { return value(t, pool, `SELECT count(*)::text FROM public.ai_provider_keys`) }
	for _, to := range []string{"copilot", "anthropic on AWS"} {
		for _, withKeys := range []bool{false, true} {
			require.EqualError(t, resolved(to, withKeys), `resolve provider "p": its stored API keys (2) would stay, and the environment's provider uses none; `+
				"remove them in the gateway, and repeat")
			require.Equal(t, "2", count())
		}
	}
	require.EqualError(t, resolved("anthropic on AWS, IAM", false), `resolve provider "p": its stored API keys (2) would stay, and the environment's provider uses none; `+
		"repeat with --with-keys to replace them by its AWS credentials")
	require.Equal(t, "2", count())
	require.NoError(t, resolved("anthropic on AWS, IAM", true))
	require.Equal(t, "0", count())
}

func testKeyRowsAtMostFive(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewGatewayPool(t)
	for _, keys := range [][]string{{"k1", "k1"}, {"k1", "k2", "k1", "k2", "k3"}} {
		storeOnly(t, pool, storedProvider{kind: "google", baseURL: "https://h/", keys: keys}, false)
		d := desiredProviders()["google"]
		d.Name, d.Variables = "p", "X"
		_, err := takeEnv(t.Context(), pool, nil, d, true, drift.IgnoreCredentials)
		require.NoError(t, err)
		require.Equal(t, "k1 k2 k3 k4 k5", value(t, pool, `SELECT string_agg(api_key, ' ' ORDER BY api_key) FROM public.ai_provider_keys`))
	}
}
