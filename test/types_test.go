//go:build e2e

package test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// moreTypes names a provider of each type that needs nothing but its type, and a
// base URL or region.
func moreTypes(w *world) environ {
	return environ{
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":           "azure",
		"CODER_AIBRIDGE_PROVIDER_0_BASE_URL":       "https://r.openai.azure.com/openai/v1",
		"CODER_AIBRIDGE_PROVIDER_0_KEY":            w.secret(openAIKey),
		"CODER_AIBRIDGE_PROVIDER_1_TYPE":           "bedrock",
		"CODER_AIBRIDGE_PROVIDER_1_BEDROCK_REGION": "us-east-1",
		"CODER_AIBRIDGE_PROVIDER_2_TYPE":           "copilot",
		"CODER_AIBRIDGE_PROVIDER_3_TYPE":           "google",
		"CODER_AIBRIDGE_PROVIDER_4_TYPE":           "openai-compat",
		"CODER_AIBRIDGE_PROVIDER_4_BASE_URL":       "http://llm.example:8000/v1",
		"CODER_AIBRIDGE_PROVIDER_5_TYPE":           "openrouter",
		"CODER_AIBRIDGE_PROVIDER_6_TYPE":           "vercel",
	}
}

// addGatewayTypes gives the enum that provwatch made the labels of the gateway's, as an
// upgrade of a gateway that shares it would.
func (w *world) addGatewayTypes() {
	w.t.Helper()
	for _, kind := range []string{"azure", "bedrock", "google", "openai-compat", "openrouter", "vercel", "copilot"} {
		w.exec(`ALTER TYPE ai_provider_type ADD VALUE '` + kind + `'`)
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	t.Run("UnknownIsSkipped", testTypesUnknownIsSkipped)
	t.Run("OfTheEnum", testTypesOfTheEnum)
	t.Run("NothingCompared", testTypesNothingCompared)
	t.Run("AddedToTheEnumLater", testTypesAddedToTheEnumLater)
}

func testTypesOfTheEnum(t *testing.T) {
	t.Parallel()
	bothSourcesOf(t, newWorldWithoutRows, func(t *testing.T, w *world) {
		env := moreTypes(w)
		p := w.start(env, "run").ready()
		require.Equal(t, []string{
			"azure azure https://r.openai.azure.com/openai/v1 1 ",
			"bedrock bedrock  0 us-east-1",
			"copilot copilot https://api.individual.githubcopilot.com 0 ",
			"google google https://generativelanguage.googleapis.com/v1beta/openai/ 0 ",
			"openai-compat openai-compat http://llm.example:8000/v1 0 ",
			"openrouter openrouter https://openrouter.ai/api/v1/ 0 ",
			"vercel vercel https://ai-gateway.vercel.sh/v1/ 0 ",
		}, w.strings(`SELECT concat_ws(' ', name, type, base_url, (SELECT count(*) FROM ai_provider_keys WHERE provider_id = p.id),
			coalesce(settings::jsonb->>'region', '')) FROM ai_providers p ORDER BY name`))
		w.exec(`UPDATE ai_providers SET settings = replace(settings, 'us-east-1', 'eu-west-1') WHERE name = 'bedrock'`)
		w.expectAlerts("changed bedrock")
		w.exec(`UPDATE ai_providers SET type = 'openai' WHERE name = 'azure'`)
		w.expectAlerts("changed bedrock", "changed azure")
		p.stop()
		r := w.run(env, "resolve", "bedrock", "--take", "env")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Equal(t, 2, w.run(env, "verify").Code, "azure")
		require.Equal(t, 0, w.run(env, "resolve", "azure", "--take", "env").Code)
		require.Equal(t, 0, w.run(env, "verify").Code)
	})
}

// testTypesNothingCompared verifies only providers whose types the enum lacks.
func testTypesNothingCompared(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t, "notify")
	env := moreTypes(w)
	r := w.run(env, "verify")
	require.Equal(t, 3, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, "0 of 7 providers drift, 7 unsupported type.\n")
	require.Contains(t, r.Stderr, "lacks the type of each provider; upgrade the gateway, whose migrations add the types that it can serve; or accept that with --allow-empty")
	require.Equal(t, 0, w.run(env, "verify", "--allow-empty").Code)
	// A row that the environment does not name was alerted: that is a drift all the same.
	p := w.start(env, "run").ready()
	w.insertProvider("openai", "rogue", "https://rogue.example/")
	w.expectAlerts("unmanaged rogue")
	p.stop()
	r = w.run(env, "verify")
	require.Equal(t, 2, r.Code, r.Stderr)
	require.NotContains(t, r.Stderr, "nothing was compared")
}

func testTypesAddedToTheEnumLater(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t, "notify")
	env := w.twoProviders()
	for name, value := range moreTypes(w) {
		env[name] = value
	}
	p := w.start(env, "run", "--resync=200ms", "--log-level=debug", "--http-addr=127.0.0.1:0").ready()
	for _, kind := range []string{"azure", "bedrock", "copilot", "google", "openai-compat", "openrouter", "vercel"} {
		p.waitFor("level=WARN", "lacks the provider's type", "provider="+kind, "upgrade the gateway")
	}
	p.waitFor("msg=ready", "providers=2")
	require.Equal(t, []string{"anthropic", "openai"}, w.strings(`SELECT name FROM ai_providers ORDER BY name`))
	r := w.run(env, "verify")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, "0 of 9 providers drift, 7 unsupported type.\n")
	s := w.run(env, "status", "-o", "json")
	require.Equal(t, 0, s.Code, s.Stderr)
	require.Contains(t, s.Stdout, `"unsupported": 7`)
	require.Contains(t, s.Stdout, `"unverified": 0`)
	_, page := p.get("/?state=unsupported")
	require.Contains(t, page, "Providers unsupported type, 7 in all")

	w.exec(`ALTER TYPE ai_provider_type ADD VALUE 'google'`)
	r = w.run(env, "seed", "--dry-run")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, "Plan: 1 to insert,")
	resyncs := p.logged("msg=verified", "full=true", "source=resync")
	eventually(t, func() bool { return p.logged("msg=verified", "full=true", "source=resync") > resyncs+1 }, "two resyncs")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.signal(syscall.SIGHUP)
	p.waitFor("environment reloaded", "providers=3")
	w.expectAlerts("disabled openai", "missing google")
	_, page = p.get("/?state=unsupported")
	require.Contains(t, page, "Providers unsupported type, 6 in all", "a reload found one less")
	p.stop()

	p = w.start(env, "run").ready()
	w.expectAlerts("disabled openai", "missing google", "resolved google")
	require.Equal(t, []string{"google"}, w.strings(`SELECT type FROM ai_providers WHERE name = 'google'`))
	p.stop()
}
