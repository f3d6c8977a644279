package pgtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGatewayTables compares a database with what the gateway relies on.
func TestGatewayTables(t *testing.T) {
	t.Parallel()
	u := NewGatewayDatabase(t)
	conn := connect(t, u)
	require.Equal(t, "openai anthropic azure bedrock google openai-compat openrouter vercel copilot",
		queryText(t, conn, `SELECT string_agg(enumlabel, ' ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = 'ai_provider_type'::regtype`))
	require.NoError(t, InsertGatewayProviders(u, GatewayProviders()))
	require.Equal(t, "gw-aws gw-aws-old gw-azure gw-compat gw-copilot gw-google gw-vercel",
		queryText(t, conn, `SELECT string_agg(name, ' ' ORDER BY name) FROM ai_providers`))
	require.Equal(t, "5", queryText(t, conn, `SELECT count(*)::text FROM ai_provider_keys`))
	for what, statement := range map[string]string{
		"a name that is taken":      `INSERT INTO ai_providers (type, name, base_url) VALUES ('openai', 'gw-aws', '')`,
		"a name of another form":    `INSERT INTO ai_providers (type, name, base_url) VALUES ('openai', 'GW', '')`,
		"settings of no key":        `UPDATE ai_providers SET settings_key_id = 'a1b2c3d'`,
		"an API key of no key":      `UPDATE ai_provider_keys SET api_key_key_id = 'a1b2c3d'`,
		"two keys of one digest":    `INSERT INTO dbcrypt_keys (number, active_key_digest, test) VALUES (1, 'a1b2c3d', ''), (2, 'a1b2c3d', '')`,
		"an API key of no provider": `INSERT INTO ai_provider_keys (provider_id, api_key) VALUES (gen_random_uuid(), 'x')`,
	} {
		_, err := conn.Exec(t.Context(), statement)
		require.Error(t, err, what)
	}
	// A name is free again once its provider is soft-deleted.
	_, err := conn.Exec(t.Context(), `INSERT INTO ai_providers (type, name, base_url) VALUES ('vercel', 'gw-vercel', '')`)
	require.NoError(t, err)
}

// TestGatewayDecoder requires that each fault is found, and that sound rows have no fault.
func TestGatewayDecoder(t *testing.T) {
	t.Parallel()
	u := NewGatewayDatabase(t)
	conn := connect(t, u)
	require.NoError(t, InsertGatewayProviders(u, GatewayProviders()))
	theirs := func(string) bool { return false }
	require.NoError(t, DecodeGatewayRows(t.Context(), conn, theirs))
	require.ErrorContains(t, DecodeGatewayRows(t.Context(), conn, nil), "is not left to its default")
	for fault, statement := range map[string]string{
		"not an absolute http or https URL":     `UPDATE ai_providers SET base_url = 'compat.invalid/v1' WHERE name = 'gw-compat'`,
		"its base URL is not":                   `UPDATE ai_providers SET base_url = '' WHERE name = 'gw-azure'`,
		"unknown member":                        `UPDATE ai_providers SET settings = '{"_type":"bedrock","_version":1,"regions":"x"}' WHERE name = 'gw-aws'`,
		"has another type":                      `UPDATE ai_providers SET settings = '{"_type":"bedrock","_version":1,"region":null}' WHERE name = 'gw-aws'`,
		"no _version":                           `UPDATE ai_providers SET settings = '{"_type":"bedrock","_version":1.0}' WHERE name = 'gw-aws'`,
		"no known _type":                        `UPDATE ai_providers SET settings = '{"_version":1}' WHERE name = 'gw-aws'`,
		"twice":                                 `UPDATE ai_providers SET settings = '{"_type":"bedrock","_version":1,"_version":1}' WHERE name = 'gw-aws'`,
		"no JSON object":                        `UPDATE ai_providers SET settings = '[]' WHERE name = 'gw-aws'`,
		"follows":                               `UPDATE ai_providers SET settings = '{"_type":"bedrock","_version":1} x' WHERE name = 'gw-aws'`,
		"it has Bedrock settings":               `UPDATE ai_providers SET type = 'openai' WHERE name = 'gw-aws'`,
		"such a provider has none":              `UPDATE ai_provider_keys SET provider_id = (SELECT id FROM ai_providers WHERE name = 'gw-copilot')`,
		"it has 6 API keys":                     `INSERT INTO ai_provider_keys (provider_id, api_key) SELECT id, 'k' FROM ai_providers, generate_series(1, 4) WHERE name = 'gw-compat'`,
		"the test has no key":                   `INSERT INTO dbcrypt_keys VALUES (1, 'a1b2c3d', NULL, now(), NULL, ''); UPDATE ai_providers SET settings_key_id = 'a1b2c3d' WHERE name = 'gw-aws'`,
		"a key id for settings and no settings": `INSERT INTO dbcrypt_keys VALUES (1, 'a1b2c3d', NULL, now(), NULL, ''); UPDATE ai_providers SET settings_key_id = 'a1b2c3d' WHERE name = 'gw-azure'`,
	} {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), statement)
		require.NoError(t, err, fault)
		require.ErrorContains(t, DecodeGatewayRows(t.Context(), tx, theirs), fault)
		require.NoError(t, tx.Rollback(t.Context()))
	}
}
