//go:build e2e

package test

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// ofTheGateway reports whether a row is one of [pgtest.GatewayProviders].
func ofTheGateway(name string) bool { return strings.HasPrefix(name, "gw-") }

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

func TestGateway(t *testing.T) {
	t.Parallel()
	t.Run("RowsStayAsWritten", testGatewayRowsStayAsWritten)
	t.Run("DecodesSeededRows", testGatewayDecodesSeededRows)
	t.Run("UnservedProviders", testGatewayUnservedProviders)
}

// testGatewayRowsStayAsWritten seeds, watches and resolves beside rows
// that the gateway has made.
func testGatewayRowsStayAsWritten(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
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
		require.Equal(t, 0, w.run(env, "verify").Code)
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
		require.Equal(t, 0, r.Code, r.Stderr)
		w.expectAlerts("changed gw-azure", "resolved gw-azure")
		withoutAzure := func(rows []string) []string {
			return slices.DeleteFunc(slices.Clone(rows), func(row string) bool { return strings.Contains(row, `"gw-azure"`) })
		}
		require.Equal(t, withoutAzure(before), withoutAzure(rows()))
		require.Equal(t, []string{"https://resource.invalid/openai/v1 /icon/azure.svg"}, w.strings(`SELECT base_url || ' ' || icon FROM ai_providers WHERE name = 'gw-azure'`))
		pgtest.RequireGatewayDecodes(t, w.db, func(name string) bool { return !ofTheGateway(name) })
		p.stop()
		require.Equal(t, 0, w.run(env, "seed").Code)
		require.Equal(t, withoutAzure(before), withoutAzure(rows()))
	})
}

// testGatewayDecodesSeededRows has an environment with providers of each type,
// by each kind of credentials.
func testGatewayDecodesSeededRows(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "notify")
	env := moreTypes(w).
		With("CODER_AIBRIDGE_OPENAI_KEY", w.secret(openAIKey)).
		With("CODER_AIBRIDGE_BEDROCK_REGION", "us-east-1").
		With("CODER_AIBRIDGE_BEDROCK_ACCESS_KEY", w.secret("AKIA0123456789ABCDEF")).
		With("CODER_AIBRIDGE_BEDROCK_ACCESS_KEY_SECRET", w.secret("aws-secret-0123456789-abcdefghij"))
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
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Equal(t, 13, w.count(`SELECT count(*) FROM ai_providers`))
	pgtest.RequireGatewayDecodes(t, w.db, nil)

	// One that is missing is inserted by resolve as well.
	w.exec(`DELETE FROM ai_providers WHERE name IN ('anthropic', 'five-keys')`)
	for _, args := range [][]string{{"anthropic"}, {"five-keys", "--with-keys"}} {
		r := w.run(env, append([]string{"resolve", "--take", "env"}, args...)...)
		require.Equal(t, 0, r.Code, r.Stderr)
	}
	require.Equal(t, 13, w.count(`SELECT count(*) FROM ai_providers`))
	pgtest.RequireGatewayDecodes(t, w.db, nil)
	require.Equal(t, 5, w.count(`SELECT count(*) FROM ai_provider_keys k JOIN ai_providers p ON p.id = k.provider_id WHERE name = 'five-keys'`))
}

// testGatewayUnservedProviders finds the same in the log, in the
// status and on the page, and alerts nothing.
func testGatewayUnservedProviders(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.insertProvider("openai", "keyless", "https://keyless.invalid/")
	w.insertProvider("openai", "off", "https://off.invalid/", `enabled = false`)
	w.insertProvider("anthropic", "garbled", "https://garbled.invalid/", `settings = 'garbage'`)
	w.insertProvider("bedrock", "nowhere", "https://nowhere.invalid/", `settings = '{"_type":"bedrock","_version":1,"region":""}'`)
	w.insertProvider("vercel", "twin", "https://RESOURCE.invalid:8443/?key="+w.secret("made-up-query-key-0123456789"))
	w.exec(`INSERT INTO ai_provider_keys (provider_id, api_key) SELECT id, $1 FROM ai_providers WHERE name = 'twin'`, w.secret("made-up-key-of-twin-0123456789"))
	type notice struct{ Provider, Problem string }
	want := []notice{
		{"gw-azure", "it shares the host resource.invalid with twin: the gateway uses this one, the first by name"},
		{"keyless", "it has no API keys: the gateway skips it, unless users may bring their own"},
		{"nowhere", "it has neither a region, a role nor AWS credentials: the gateway skips it"},
		{"nowhere", "it has no model: the gateway serves no requests to it"},
	}
	env := w.twoProviders()
	const line = "the gateway does not serve the provider as its row suggests"
	p := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
	eventually(t, func() bool { return p.logged("level=WARN", line) >= len(want) }, "%d warnings", len(want))
	_, page := p.get("/")
	owner := env.With("DATABASE_URL", w.url)
	status, seeded := w.run(owner, "status"), w.run(env, "seed")
	require.Equal(t, []int{0, 0}, []int{status.Code, seeded.Code}, status.Stderr+seeded.Stderr)
	require.Equal(t, len(want), strings.Count(seeded.Stderr, line))
	for _, n := range want {
		require.Equal(t, 1, p.logged("level=WARN", line, "provider="+n.Provider, n.Problem))
		require.Contains(t, page, "<bdi>"+n.Provider+"</bdi>: "+n.Problem)
		require.Contains(t, seeded.Stderr, n.Problem)
		require.Regexp(t, n.Provider+` +`+n.Problem, status.Squeezed().Stdout)
	}
	r := w.run(owner, "status", "-o", "json")
	var printed struct{ Notices []notice }
	require.NoError(t, json.Unmarshal([]byte(r.Stdout), &printed))
	require.Equal(t, want, printed.Notices)

	// Who may not read the rows is told nothing of them.
	r = w.run(env, "status", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.NotContains(t, r.Stdout, `"notices"`)

	// It is no drift. A reload looks again.
	require.Equal(t, 0, w.run(env, "verify").Code)
	require.Empty(t, w.alerts())
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name IN ('twin', 'nowhere')`)
	p.signal(syscall.SIGHUP)
	eventually(t, func() bool { return p.logged(line, "provider=keyless") >= 2 }, "a reload warns again")
	p.stop()
	require.Equal(t, len(want)+1, p.logged(line))
	require.Empty(t, w.alerts())
}
