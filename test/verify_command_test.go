//go:build e2e

package test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	env := w.twoProviders()
	require.Equal(t, result{Code: 2, Stdout: block(`
		PROVIDER   STATE    CAUSE               FIELD  ENVIRONMENT  DATABASE
		anthropic  missing  moved: environment                      no row
		openai     missing  moved: environment                      no row
		2 of 2 providers drift.
		`)}, w.run(env, "verify"))
	w.unmigrated()

	require.Equal(t, 0, w.run(env, "seed").Code)
	before := w.dump()
	require.Equal(t, result{Code: 0, Stdout: block(`
		PROVIDER   STATE    CAUSE  FIELD  ENVIRONMENT  DATABASE
		anthropic  in sync
		openai     in sync
		0 of 2 providers drift.
		`)}, w.run(env, "verify"))
	r := w.run(env, "verify", "-o", "json")
	require.Equal(t, 0, r.Code)
	require.JSONEq(t, `{"drifts": 0, "providers": `+stepsJSON("unchanged", "in_sync", anthropicHash, openAIHash)+`, "unmanaged": []}`, r.Stdout)
	require.Equal(t, before, w.dump())

	w.exec(`UPDATE ai_providers SET base_url = E'https://proxy.example/\x1b[31m', enabled = false WHERE name = 'openai'`)
	before = w.dump()
	require.Equal(t, result{Code: 2, Stdout: block(`
		PROVIDER   STATE     CAUSE            FIELD     ENVIRONMENT                 DATABASE
		anthropic  in sync
		openai     disabled  moved: database  enabled   true                        false
		                                      base_url  https://api.openai.com/v1/  (not a URL, withheld)
		1 of 2 providers drifts.
		`)}, w.run(env, "verify"))
	r = w.run(env, "verify", "-o", "json")
	require.Equal(t, 2, r.Code)
	var verification struct {
		Drifts    int
		Providers []struct {
			Provider, State, Kind string
			Fields                []struct{ Name, Env, DB string }
			EnvHash               string `json:"env_hash"`
			DBHash                string `json:"db_hash"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.Stdout), &verification))
	require.Equal(t, 1, verification.Drifts)
	require.Equal(t, []string{"drifted", "disabled"}, []string{verification.Providers[1].State, verification.Providers[1].Kind})
	require.Equal(t, openAIHash, verification.Providers[1].EnvHash)
	require.NotEqual(t, openAIHash, verification.Providers[1].DBHash)
	require.Regexp(t, "^hmac:[0-9a-f]{64}$", verification.Providers[1].DBHash, "what is no URL can hold a password")
	require.Equal(t, []struct{ Name, Env, DB string }{
		{"enabled", "true", "false"}, {"base_url", "https://api.openai.com/v1/", "(not a URL, withheld)"},
	}, verification.Providers[1].Fields)
	require.Equal(t, before, w.dump())
}
