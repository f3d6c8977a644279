package test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// ofTheGateway reports whether a row is one of [pgtest.GatewayProviders].
func ofTheGateway(name string) bool { return strings.HasPrefix(name, "gw-") }

// insertGatewayProviders inserts the rows that a gateway's administrator has made.
func (w *world) insertGatewayProviders() {
	w.t.Helper()
	pgtest.InsertGatewayProviders(w.t, w.url, pgtest.GatewayProviders())
	for _, secret := range []string{pgtest.GatewayAccessKey, pgtest.GatewayAccessKeySecret, pgtest.GatewayAPIKey} {
		w.secret(secret)
	}
}

// gatewayProviders names the live and enabled ones of them, as they are stored.
func gatewayProviders() environ {
	env := environ{}
	for i, p := range []map[string]string{
		{"NAME": "gw-aws", "TYPE": "bedrock", "BEDROCK_REGION": "us-east-1"},
		{"NAME": "gw-aws-old", "TYPE": "anthropic", "BEDROCK_REGION": "eu-west-1", "BEDROCK_BASE_URL": "https://bedrock.invalid/"},
		{"NAME": "gw-compat", "TYPE": "openai-compat", "BASE_URL": "https://compat.invalid/v1"},
		{"NAME": "gw-azure", "TYPE": "azure", "BASE_URL": "https://resource.invalid/openai/v1"},
		{"NAME": "gw-copilot", "TYPE": "copilot", "BASE_URL": "https://copilot.invalid"},
	} {
		for field, value := range p {
			env["CODER_AIBRIDGE_PROVIDER_"+string(rune('0'+i))+"_"+field] = value
		}
	}
	return env
}

// TestTheRowsOfTheGatewayStayAsItWritesThem seeds, watches and resolves beside rows
// that the gateway has made.
func TestTheRowsOfTheGatewayStayAsItWritesThem(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		w.insertGatewayProviders()
		rows := func() []string {
			return w.strings(`SELECT to_jsonb(p)::text FROM ai_providers p WHERE name LIKE 'gw-%'
				UNION ALL SELECT to_jsonb(k)::text FROM ai_provider_keys k JOIN ai_providers p ON p.id = k.provider_id WHERE p.name LIKE 'gw-%' ORDER BY 1`)
		}
		before := rows()
		require.Len(t, before, 12)
		env := gatewayProviders()
		for name, value := range w.twoProviders() {
			env[name] = value
		}
		p := w.start(env, "run").ready()
		require.Equal(t, []string{"anthropic", "openai"}, w.strings(`SELECT name FROM ai_providers WHERE name NOT LIKE 'gw-%' ORDER BY name`))
		require.Equal(t, 0, w.run(env, "verify").code)
		require.Equal(t, before, rows())

		// What the gateway changes by itself, and what is none of the environment's, is no
		// drift: the alert that follows is the first.
		w.exec(`UPDATE ai_providers SET type = 'bedrock', updated_at = now() WHERE name = 'gw-aws-old'`)
		w.exec(`UPDATE ai_providers SET icon = '/icon/other.svg', display_name = NULL,
			settings = '{"_type":"upstream-headers","_version":1,"headers":{"x-other":"1"}}' WHERE name = 'gw-compat'`)
		w.exec(`UPDATE ai_providers SET settings = replace(settings, 'arn:profile-a', 'arn:profile-z') WHERE name = 'gw-aws'`)
		before = rows()
		w.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere.invalid/' WHERE name = 'gw-azure'`)
		w.expectAlerts("changed gw-azure")
		r := w.run(env, "resolve", "gw-azure", "--take", "env")
		require.Equal(t, 0, r.code, r.stderr)
		w.expectAlerts("changed gw-azure", "resolved gw-azure")
		withoutAzure := func(rows []string) []string {
			return slices.DeleteFunc(slices.Clone(rows), func(row string) bool { return strings.Contains(row, `"gw-azure"`) })
		}
		require.Equal(t, withoutAzure(before), withoutAzure(rows()))
		require.Equal(t, []string{"https://resource.invalid/openai/v1 /icon/azure.svg"}, w.strings(`SELECT base_url || ' ' || icon FROM ai_providers WHERE name = 'gw-azure'`))
		pgtest.RequireGatewayDecodes(t, w.db, func(name string) bool { return !ofTheGateway(name) })
		p.stop()
		require.Equal(t, 0, w.run(env, "seed").code)
		require.Equal(t, withoutAzure(before), withoutAzure(rows()))
	})
}

// TestTheGatewayDecodesWhatIsSeeded has an environment with providers of each type,
// by each kind of credentials.
func TestTheGatewayDecodesWhatIsSeeded(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	env := moreTypes(w).
		with("CODER_AIBRIDGE_OPENAI_KEY", w.secret(openAIKey)).
		with("CODER_AIBRIDGE_BEDROCK_REGION", "us-east-1").
		with("CODER_AIBRIDGE_BEDROCK_ACCESS_KEY", w.secret("AKIA0123456789ABCDEF")).
		with("CODER_AIBRIDGE_BEDROCK_ACCESS_KEY_SECRET", w.secret("aws-secret-0123456789-abcdefghij"))
	for index, fields := range map[string]map[string]string{
		"7": {"TYPE": "openai", "NAME": "vendors"}, // whose base URL the gateway knows
		"8": {"TYPE": "anthropic", "NAME": "five-keys", "KEYS": w.secret("sk-five-0123456789-1") + "," + w.secret("sk-five-0123456789-2") +
			",sk-five-3,sk-five-4,sk-five-5"},
		"9":  {"TYPE": "bedrock", "NAME": "by-url", "BEDROCK_BASE_URL": "https://bedrock.invalid", "BEDROCK_MODEL": `m"<&>`},
		"10": {"TYPE": "anthropic", "NAME": "by-region", "BEDROCK_REGION": "eu-west-1"},
	} {
		for field, value := range fields {
			env["CODER_AIBRIDGE_PROVIDER_"+index+"_"+field] = value
		}
	}
	r := w.run(env, "seed")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, 13, w.count(`SELECT count(*) FROM ai_providers`))
	pgtest.RequireGatewayDecodes(t, w.db, nil)

	// One that is missing is inserted by resolve as well.
	w.exec(`DELETE FROM ai_providers WHERE name IN ('anthropic', 'five-keys')`)
	for _, args := range [][]string{{"anthropic"}, {"five-keys", "--with-keys"}} {
		r := w.run(env, append([]string{"resolve", "--take", "env"}, args...)...)
		require.Equal(t, 0, r.code, r.stderr)
	}
	require.Equal(t, 13, w.count(`SELECT count(*) FROM ai_providers`))
	pgtest.RequireGatewayDecodes(t, w.db, nil)
	require.Equal(t, 5, w.count(`SELECT count(*) FROM ai_provider_keys k JOIN ai_providers p ON p.id = k.provider_id WHERE name = 'five-keys'`))
}
