//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// stepsJSON is the JSON of the providers anthropic and openai in a plan.
func stepsJSON(action, state, anthropicDB, openAIDB string) string {
	moved := ""
	if state == "drifted" { // the environment has only begun to name them
		moved = `"kind": "missing", "moved": "environment", `
	}
	return fmt.Sprintf(`[
		{"action": %[1]q, "provider": "anthropic", "type": "anthropic", "base_url": "https://api.anthropic.com/", "keys": 1,
		 "state": %[2]q, %[7]s"accepted": false, "fields": [], "env_hash": %[3]q, "db_hash": %[4]q},
		{"action": %[1]q, "provider": "openai", "type": "openai", "base_url": "https://api.openai.com/v1/", "keys": 1,
		 "state": %[2]q, %[7]s"accepted": false, "fields": [], "env_hash": %[5]q, "db_hash": %[6]q}]`,
		action, state, anthropicHash, anthropicDB, openAIHash, openAIDB, moved)
}

func testSeedPrintsAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	env := w.twoProviders()
	r := w.run(env, "seed")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Equal(t, block(`
		   PROVIDER   PLAN    FIELD     ENVIRONMENT                 DATABASE
		+  anthropic  insert  type      anthropic                   -
		                      base_url  https://api.anthropic.com/  -
		                      api_keys  1                           -
		+  openai     insert  type      openai                      -
		                      base_url  https://api.openai.com/v1/  -
		                      api_keys  1                           -
		Done: 2 inserted, 0 drifted, 0 not comparable, 0 soft-deleted, 0 unchanged, 0 accepted, 0 unsupported type.
		`), r.Stdout)
	w.expectAuditOfTwoProviders()
	require.Equal(t, []string{anthropicKey, openAIKey}, w.strings(`SELECT api_key FROM ai_provider_keys ORDER BY api_key`))

	before := w.dumpBesideSeed()
	r = w.run(env, "seed")
	require.Equal(t, result{Code: 0, Stdout: block(`
		   PROVIDER   PLAN       FIELD  ENVIRONMENT  DATABASE
		=  anthropic  unchanged
		=  openai     unchanged
		Done: 0 inserted, 0 drifted, 0 not comparable, 0 soft-deleted, 2 unchanged, 0 accepted, 0 unsupported type.
		`)}, r)
	r = w.run(env, "seed", "-o", "json")
	require.Equal(t, 0, r.Code)
	require.Empty(t, r.Stderr)
	require.JSONEq(t, `{"applied": true, "steps": `+stepsJSON("unchanged", "in_sync", anthropicHash, openAIHash)+`}`, r.Stdout)
	require.Equal(t, before, w.dumpBesideSeed())
}

func testSeedDryRunOnAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	env := w.twoProviders()
	require.Equal(t, result{Code: 0, Stdout: block(`
		   PROVIDER   PLAN    FIELD     ENVIRONMENT                 DATABASE
		+  anthropic  insert  type      anthropic                   -
		                      base_url  https://api.anthropic.com/  -
		                      api_keys  1                           -
		+  openai     insert  type      openai                      -
		                      base_url  https://api.openai.com/v1/  -
		                      api_keys  1                           -
		Plan: 2 to insert, 0 drifted, 0 not comparable, 0 soft-deleted, 0 unchanged, 0 accepted, 0 unsupported type.
		`)}, w.run(env, "seed", "--dry-run"))
	r := w.run(env, "seed", "--dry-run", "-o", "json")
	require.Equal(t, 0, r.Code)
	require.JSONEq(t, `{"applied": false, "steps": `+stepsJSON("insert", "drifted", "", "")+`}`, r.Stdout)
	w.unmigrated()
}

func testSeedDryRunFieldByField(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.migrate()
	env := environ{
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":                      "openai",
		"CODER_AIBRIDGE_PROVIDER_0_NAME":                      "fresh",
		"CODER_AIBRIDGE_PROVIDER_0_BASE_URL":                  "https://user:" + w.secret("hunter2-in-the-userinfo") + "@fresh.example/v1?k=1",
		"CODER_AIBRIDGE_PROVIDER_0_KEYS":                      w.secret("sk-fresh-0123456789-first") + "," + w.secret("sk-fresh-0123456789-second"),
		"CODER_AIBRIDGE_PROVIDER_1_TYPE":                      "anthropic",
		"CODER_AIBRIDGE_PROVIDER_1_NAME":                      "moved",
		"CODER_AIBRIDGE_PROVIDER_1_BEDROCK_REGION":            "eu-west-1",
		"CODER_AIBRIDGE_PROVIDER_1_BEDROCK_ACCESS_KEY":        w.secret("AKIA0123456789MOVED"),
		"CODER_AIBRIDGE_PROVIDER_1_BEDROCK_ACCESS_KEY_SECRET": w.secret("bedrock-secret-0123456789-moved"),
		"CODER_AIBRIDGE_PROVIDER_2_TYPE":                      "openai",
		"CODER_AIBRIDGE_PROVIDER_2_NAME":                      "edited",
		"CODER_AIBRIDGE_PROVIDER_2_BASE_URL":                  "https://edited.example/v1",
		"CODER_AIBRIDGE_PROVIDER_3_TYPE":                      "openai",
		"CODER_AIBRIDGE_PROVIDER_3_NAME":                      "retired",
		"CODER_AIBRIDGE_PROVIDER_3_BASE_URL":                  "https://retired.example/v1",
		"CODER_AIBRIDGE_PROVIDER_4_TYPE":                      "openai",
		"CODER_AIBRIDGE_PROVIDER_4_NAME":                      "same",
		"CODER_AIBRIDGE_PROVIDER_4_BASE_URL":                  "https://same.example/v1",
		"CODER_AIBRIDGE_PROVIDER_5_TYPE":                      "openai",
		"CODER_AIBRIDGE_PROVIDER_5_NAME":                      "kept",
		"CODER_AIBRIDGE_PROVIDER_5_BASE_URL":                  "https://kept.example/v1",
	}
	w.insertProvider("anthropic", "moved", "", `settings = '{"_type": "bedrock", "_version": 1, "region": "us-east-1", "access_key": "`+w.secret("AKIA-STORED-0123456789")+`"}'`)
	w.insertProvider("anthropic", "edited", "https://elsewhere.example/v1")
	w.insertProvider("openai", "retired", "https://retired.example/v1", "deleted = true")
	w.insertProvider("openai", "same", "https://same.example/v1")
	w.insertProvider("openai", "kept", "https://by-the-operator.example/v1")
	w.insertProvider("openai", "not-in-the-environment", "https://other.example/v1", "settings = 'garbage'")
	require.Equal(t, 0, w.run(env, "resolve", "kept", "--take", "db").Code)

	before := w.dump()
	r := w.run(env, "seed", "--dry-run")
	require.Regexp(t, `^time=\S+ level=WARN msg="has userinfo, a query or a fragment, [^"]*" variable=CODER_AIBRIDGE_PROVIDER_0_BASE_URL\n$`, r.Stderr)
	r.Stderr = ""
	require.Equal(t, result{Code: 2, Stdout: block(`
		   PROVIDER  PLAN                    FIELD           ENVIRONMENT                DATABASE
		~  edited    drifted                 type            openai                     anthropic
		                                     base_url        https://edited.example/v1  https://elsewhere.example/v1
		+  fresh     insert                  type            openai                     -
		                                     base_url        https://fresh.example/v1   -
		                                     api_keys        2                          -
		=  kept      accepted                base_url        https://kept.example/v1    https://by-the-operator.example/v1
		~  moved     drifted                 bedrock_region  eu-west-1                  us-east-1
		-  retired   soft-deleted, stays so  deleted         false                      true
		=  same      unchanged
		Plan: 1 to insert, 2 drifted, 0 not comparable, 1 soft-deleted, 1 unchanged, 1 accepted, 0 unsupported type.
		`)}, r)

	r = w.run(env, "seed", "--dry-run", "-o", "json")
	require.Equal(t, 2, r.Code)
	var plan struct {
		Applied bool
		Steps   []struct {
			Action, Provider, State, Kind string
			BedrockRegion                 string `json:"bedrock_region"`
			Keys                          int
			Fields                        []struct{ Name, Env, DB string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.Stdout), &plan))
	require.False(t, plan.Applied)
	var steps []string
	for _, s := range plan.Steps {
		steps = append(steps, fmt.Sprintln(s.Action, s.Provider, s.State+"/"+s.Kind, s.BedrockRegion, s.Keys, s.Fields))
	}
	require.Equal(t, []string{
		"drift edited drifted/changed  0 [{type openai anthropic} {base_url https://edited.example/v1 https://elsewhere.example/v1}]\n",
		"insert fresh drifted/missing  2 []\n",
		"accepted kept accepted/changed  0 [{base_url https://kept.example/v1 https://by-the-operator.example/v1}]\n",
		"drift moved drifted/changed eu-west-1 0 [{bedrock_region eu-west-1 us-east-1}]\n",
		"deleted retired deleted/deleted  0 [{deleted false true}]\n",
		"unchanged same in_sync/  0 []\n",
	}, steps)
	require.Equal(t, before, w.dump())
}
