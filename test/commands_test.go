//go:build e2e

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// dump returns every row of every table that the database has, so that two
// dumps are equal only when nothing was written in between.
func (w *world) dump() []string {
	w.t.Helper()
	var dump []string
	for _, table := range w.tables() {
		dump = append(dump, table)
		dump = append(dump, w.strings("SELECT to_jsonb(r)::text FROM "+table+" r ORDER BY 1")...)
	}
	return dump
}

// tables returns all tables that are not PostgreSQL's own.
func (w *world) tables() []string {
	w.t.Helper()
	return w.strings(`SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
		WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`)
}

// unmigrated fails unless the database is as empty as CREATE DATABASE left it.
func (w *world) unmigrated() {
	w.t.Helper()
	require.Empty(w.t, w.tables())
	require.Zero(w.t, w.count(`SELECT count(*) FROM pg_namespace WHERE nspname = 'provwatch'`))
	require.Zero(w.t, w.count(`SELECT count(*) FROM pg_type WHERE typname = 'ai_provider_type'`))
}

// block is an expected output, written with a first line break and an
// indentation by tabs, which do not count.
func block(text string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimPrefix(text, "\n")) {
		lines = append(lines, strings.TrimLeft(line, "\t"))
	}
	return strings.Join(lines, "")
}

// insertProvider inserts a row; more is a list of further "column = value".
func (w *world) insertProvider(kind, name, baseURL string, more ...string) {
	w.t.Helper()
	w.exec(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), $1::text::ai_provider_type, $2, $3)`, kind, name, baseURL)
	for _, set := range more {
		w.exec(`UPDATE ai_providers SET `+set+` WHERE name = $1`, name)
	}
}

func (w *world) migrate() {
	w.t.Helper()
	require.Equal(w.t, 0, w.run(nil, "migrate").code)
}

const (
	openAIHash    = "cabd847272bab8fade7606c5259fb29ed03a0da450c7dfb684b5c0fb84010a07"
	anthropicHash = "f116753d24e84fe28f1086f4d81ebb16d8846db8ce91da070bbf2cfd0df5b19d"
)

// stepsJSON is the JSON of the providers anthropic and openai in a plan.
func stepsJSON(action, state, anthropicDB, openAIDB string) string {
	return fmt.Sprintf(`[
		{"action": %[1]q, "provider": "anthropic", "type": "anthropic", "base_url": "https://api.anthropic.com/", "keys": 1,
		 "state": %[2]q, "fields": [], "env_hash": %[3]q, "db_hash": %[4]q},
		{"action": %[1]q, "provider": "openai", "type": "openai", "base_url": "https://api.openai.com/v1/", "keys": 1,
		 "state": %[2]q, "fields": [], "env_hash": %[5]q, "db_hash": %[6]q}]`,
		action, state, anthropicHash, anthropicDB, openAIHash, openAIDB)
}

func TestSeedPrintsWhatItDidAndASecondSeedDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	env := w.twoProviders()
	r := w.run(env, "seed")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, block(`
		   PROVIDER   PLAN    FIELD     ENVIRONMENT                 DATABASE
		+  anthropic  insert  type      anthropic                   -
		                      base_url  https://api.anthropic.com/  -
		                      api_keys  1                           -
		+  openai     insert  type      openai                      -
		                      base_url  https://api.openai.com/v1/  -
		                      api_keys  1                           -
		Done: 2 inserted, 0 drifted, 0 not comparable, 0 soft-deleted, 0 unchanged, 0 accepted, 0 skipped.
		`), r.stdout)
	w.expectAuditOfTwoProviders()
	require.Equal(t, []string{anthropicKey, openAIKey}, w.strings(`SELECT api_key FROM ai_provider_keys ORDER BY api_key`))

	before := w.dump()
	r = w.run(env, "seed")
	require.Equal(t, result{0, block(`
		   PROVIDER   PLAN       FIELD  ENVIRONMENT  DATABASE
		=  anthropic  unchanged
		=  openai     unchanged
		Done: 0 inserted, 0 drifted, 0 not comparable, 0 soft-deleted, 2 unchanged, 0 accepted, 0 skipped.
		`), ""}, r)
	r = w.run(env, "seed", "-o", "json")
	require.Equal(t, 0, r.code)
	require.Empty(t, r.stderr)
	require.JSONEq(t, `{"applied": true, "steps": `+stepsJSON("unchanged", "in_sync", anthropicHash, openAIHash)+`}`, r.stdout)
	require.Equal(t, before, w.dump())
}

func TestADryRunOnAnEmptyDatabasePlansInsertionsAndMakesNothing(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	env := w.twoProviders()
	require.Equal(t, result{0, block(`
		   PROVIDER   PLAN    FIELD     ENVIRONMENT                 DATABASE
		+  anthropic  insert  type      anthropic                   -
		                      base_url  https://api.anthropic.com/  -
		                      api_keys  1                           -
		+  openai     insert  type      openai                      -
		                      base_url  https://api.openai.com/v1/  -
		                      api_keys  1                           -
		Plan: 2 to insert, 0 drifted, 0 not comparable, 0 soft-deleted, 0 unchanged, 0 accepted, 0 skipped.
		`), ""}, w.run(env, "seed", "--dry-run"))
	r := w.run(env, "seed", "--dry-run", "-o", "json")
	require.Equal(t, 0, r.code)
	require.JSONEq(t, `{"applied": false, "steps": `+stepsJSON("insert", "missing", "", "")+`}`, r.stdout)
	w.unmigrated()
}

func TestADryRunOnAMixedDatabaseShowsEachProviderFieldByField(t *testing.T) {
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
	require.Equal(t, 0, w.run(env, "resolve", "kept", "--take", "db").code)

	before := w.dump()
	r := w.run(env, "seed", "--dry-run")
	require.Regexp(t, `^time=\S+ level=WARN msg="has userinfo, a query or a fragment, [^"]*" variable=CODER_AIBRIDGE_PROVIDER_0_BASE_URL\n$`, r.stderr)
	r.stderr = ""
	require.Equal(t, result{2, block(`
		   PROVIDER  PLAN                    FIELD           ENVIRONMENT                DATABASE
		~  edited    drift                   type            openai                     anthropic
		                                     base_url        https://edited.example/v1  https://elsewhere.example/v1
		+  fresh     insert                  type            openai                     -
		                                     base_url        https://fresh.example/v1   -
		                                     api_keys        2                          -
		=  kept      drift accepted          base_url        https://kept.example/v1    https://by-the-operator.example/v1
		~  moved     drift                   bedrock_region  eu-west-1                  us-east-1
		-  retired   soft-deleted, stays so  deleted         false                      true
		=  same      unchanged
		Plan: 1 to insert, 2 drifted, 0 not comparable, 1 soft-deleted, 1 unchanged, 1 accepted, 0 skipped.
		`), ""}, r)

	r = w.run(env, "seed", "--dry-run", "-o", "json")
	require.Equal(t, 2, r.code)
	var plan struct {
		Applied bool
		Steps   []struct {
			Action, Provider, State string
			BedrockRegion           string `json:"bedrock_region"`
			Keys                    int
			Fields                  []struct{ Name, Env, DB string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &plan))
	require.False(t, plan.Applied)
	var steps []string
	for _, s := range plan.Steps {
		steps = append(steps, fmt.Sprint(s.Action, s.Provider, s.State, s.BedrockRegion, s.Keys, s.Fields))
	}
	require.Equal(t, []string{
		"drifteditedchanged0 [{type openai anthropic} {base_url https://edited.example/v1 https://elsewhere.example/v1}]",
		"insertfreshmissing2 []",
		"acceptedkeptchanged0 [{base_url https://kept.example/v1 https://by-the-operator.example/v1}]",
		"driftmovedchangedeu-west-10 [{bedrock_region eu-west-1 us-east-1}]",
		"deletedretireddeleted0 [{deleted false true}]",
		"unchangedsamein_sync0 []",
	}, steps)
	require.Equal(t, before, w.dump())
}

// differs is the error about a drifted provider, word for word
// (docs/specification.md, section 4).
func differs(name, fields, variable string) string {
	return fmt.Sprintf(`AI provider "%[1]s" already exists in the database and differs from the current environment configuration: %[2]s; `+
		`either make both agree (change the variables %[3]s, or "worker resolve %[1]s --take env" to write them to the database), `+
		`or keep the database's values with "worker resolve %[1]s --take db"`, name, fields, variable)
}

func TestABootWithDriftFailsNamingEveryProviderAndWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 0, w.run(w.twoProviders(), "seed").code)
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1', type = 'anthropic' WHERE name = 'openai'`)
	w.exec(`UPDATE ai_providers SET settings = '{"_type": "bedrock", "_version": 1, "region": "us-east-1"}' WHERE name = 'anthropic'`)
	env := w.twoProviders().
		with("CODER_AIBRIDGE_PROVIDER_0_TYPE", "openai").with("CODER_AIBRIDGE_PROVIDER_0_NAME", "extra").
		with("CODER_AIBRIDGE_PROVIDER_0_KEY", w.secret("sk-extra-0123456789-abcdef"))
	want := "worker: " + differs("anthropic", `type (environment "anthropic", database "anthropic (Bedrock)"), bedrock_region (environment "", database "us-east-1")`, "CODER_AIBRIDGE_ANTHROPIC_*") + "\n" +
		differs("openai", `type (environment "openai", database "anthropic"), base_url (environment "https://api.openai.com/v1/", database "https://proxy.example/v1")`,
			"CODER_AIBRIDGE_OPENAI_*") + "\n" +
		`or start all the same, seeding what is missing and alerting what differs: "worker run --on-boot-drift=alert"` + "\n"

	before := w.dump()
	require.Equal(t, result{2, "", want}, w.run(env, "seed"))
	r := w.run(env, "run")
	require.Equal(t, 2, r.code)
	require.Equal(t, want, r.stderr[strings.Index(r.stderr, "worker: "):])
	require.Empty(t, r.stdout)
	require.Equal(t, before, w.dump())
	require.Len(t, w.payloads(pubsub.Seeds), 2, "of the first seed")

	// With --on-boot-drift=alert the same boot succeeds.
	p := w.start(env, "run", "--on-boot-drift=alert").ready()
	p.waitFor("level=WARN", "provider differs from the environment", "provider=openai",
		`remedy="worker resolve openai --take env, or worker resolve openai --take db"`)
	w.expectAlerts("changed anthropic", "changed openai")
	require.Equal(t, []string{"boot", "boot"}, w.strings(`SELECT source FROM provwatch.drift_alerts`))
	require.Equal(t, []string{"extra"}, w.strings(`SELECT name FROM ai_providers JOIN ai_provider_keys k ON k.provider_id = ai_providers.id
		WHERE api_key = 'sk-extra-0123456789-abcdef'`))
	eventually(t, func() bool { return len(w.payloads(pubsub.Seeds)) == 3 }, "the missing provider's seed is published")
	w.exec(`UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/', type = 'openai' WHERE name = 'openai'`)
	w.expectAlerts("changed anthropic", "changed openai", "resolved openai")
	p.stop()
}

func TestSettingsThatCannotBeDecodedAreAnErrorAndNeverTakenForEqual(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]struct{ set, problem, remedy string }{
		"not JSON": {`settings = 'garbage with sk-inside-0123456789'`, "settings are not a JSON object", "repair its settings"},
		"another version": {`settings = '{"_type": "bedrock", "_version": 2, "x": "sk-inside-0123456789"}'`, `settings have an unknown "_version"`,
			"repair its settings"},
		"encrypted": {`settings_key_id = 'key-7', settings = 'sk-inside-0123456789'`,
			`encrypted with key "key-7", which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS`, "add the key to the variable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.migrate()
			w.secret("sk-inside-0123456789")
			env := w.twoProviders()
			w.exec(`INSERT INTO dbcrypt_keys (number, revoked_key_digest, active_key_digest, test) VALUES (1, 'key-6', 'key-7', '')`)
			w.insertProvider("anthropic", "anthropic", "https://api.anthropic.com/", settings.set)
			before := w.dump()
			want := fmt.Sprintf(`AI provider "anthropic" already exists in the database and cannot be compared: %s; `+
				`%s, or remove its variables (CODER_AIBRIDGE_ANTHROPIC_*)`+"\n"+
				`or start all the same, seeding what is missing and alerting what differs: "worker run --on-boot-drift=alert"`, settings.problem, settings.remedy)
			require.Equal(t, result{1, "", "worker: " + want + "\n"}, w.run(env, "seed"))
			r := w.run(env, "seed", "--dry-run")
			require.Equal(t, 1, r.code)
			require.Contains(t, r.stdout, "!  anthropic  cannot be compared  settings  none                        cannot be compared: "+settings.problem+"\n")
			r = w.run(env, "resolve", "anthropic", "--take", "db")
			require.Equal(t, 1, r.code)
			require.Contains(t, r.stderr, settings.problem)
			require.Equal(t, before, w.dump())

			p := w.start(env, "run", "--on-boot-drift=alert").ready()
			require.Equal(t, []string{settings.problem}, w.strings(`SELECT reason FROM provwatch.not_comparable WHERE provider = 'anthropic'`))
			w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			w.expectAlerts("disabled openai")
			w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
			p.stop()

			// Once the environment does not name it, nobody looks at it.
			delete(env, "CODER_AIBRIDGE_ANTHROPIC_KEY")
			require.Equal(t, 0, w.run(env, "seed").code)
			require.Equal(t, 0, w.run(env, "verify").code)
		})
	}
}

func TestVerifyTellsDriftByItsExitCode(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	env := w.twoProviders()
	require.Equal(t, result{2, block(`
		PROVIDER   STATE    FIELD  ENVIRONMENT  DATABASE
		anthropic  missing                      no row
		openai     missing                      no row
		2 of 2 providers drift.
		`), ""}, w.run(env, "verify"))
	w.unmigrated()

	require.Equal(t, 0, w.run(env, "seed").code)
	before := w.dump()
	require.Equal(t, result{0, block(`
		PROVIDER   STATE    FIELD  ENVIRONMENT  DATABASE
		anthropic  in sync
		openai     in sync
		0 of 2 providers drift.
		`), ""}, w.run(env, "verify"))
	r := w.run(env, "verify", "-o", "json")
	require.Equal(t, 0, r.code)
	require.JSONEq(t, `{"drifts": 0, "providers": `+stepsJSON("unchanged", "in_sync", anthropicHash, openAIHash)+`}`, r.stdout)
	require.Equal(t, before, w.dump())

	w.exec(`UPDATE ai_providers SET base_url = E'https://proxy.example/\x1b[31m', enabled = false WHERE name = 'openai'`)
	before = w.dump()
	require.Equal(t, result{2, block(`
		PROVIDER   STATE     FIELD     ENVIRONMENT                 DATABASE
		anthropic  in sync
		openai     disabled  enabled   true                        false
		                     base_url  https://api.openai.com/v1/  (not a URL, withheld)
		1 of 2 providers drifts.
		`), ""}, w.run(env, "verify"))
	r = w.run(env, "verify", "-o", "json")
	require.Equal(t, 2, r.code)
	var verification struct {
		Drifts    int
		Providers []struct {
			Provider, State string
			Fields          []struct{ Name, Env, DB string }
			EnvHash         string `json:"env_hash"`
			DBHash          string `json:"db_hash"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &verification))
	require.Equal(t, 1, verification.Drifts)
	require.Equal(t, "disabled", verification.Providers[1].State)
	require.Equal(t, openAIHash, verification.Providers[1].EnvHash)
	require.NotEqual(t, openAIHash, verification.Providers[1].DBHash)
	require.Regexp(t, "^hmac:[0-9a-f]{64}$", verification.Providers[1].DBHash, "what is no URL can hold a password")
	require.Equal(t, []struct{ Name, Env, DB string }{
		{"enabled", "true", "false"}, {"base_url", "https://api.openai.com/v1/", "(not a URL, withheld)"},
	}, verification.Providers[1].Fields)
	require.Equal(t, before, w.dump())
}

// oneProviderWithTwoKeys names the provider proxy.
func (w *world) oneProviderWithTwoKeys() (env environ, first, second string) {
	first, second = w.secret("sk-first-0123456789-abcdef"), w.secret("sk-second-0123456789-abcdef")
	return environ{
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":     "openai",
		"CODER_AIBRIDGE_PROVIDER_0_NAME":     "proxy",
		"CODER_AIBRIDGE_PROVIDER_0_BASE_URL": "https://proxy.example/v1",
		"CODER_AIBRIDGE_PROVIDER_0_KEYS":     first + "," + second,
	}, first, second
}

func (w *world) addKey(key string) {
	w.t.Helper()
	w.exec(`INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, $1 FROM ai_providers WHERE NOT deleted`, w.secret(key))
}

func TestVerifyComparesCredentialsOnlyWhenAskedTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env, first, second := w.oneProviderWithTwoKeys()
	require.Equal(t, 0, w.run(env, "seed").code)
	other := env.with("CODER_AIBRIDGE_PROVIDER_0_KEYS", second+" , "+first)
	require.Equal(t, 0, w.run(other, "verify", "--credential-drift=alert").code, "the order of keys does not matter")
	w.addKey("sk-third-0123456789-abcdef")

	inSync := block(`
		PROVIDER  STATE    FIELD  ENVIRONMENT  DATABASE
		proxy     in sync
		0 of 1 provider drifts.
		`)
	require.Equal(t, result{0, inSync, ""}, w.run(env, "verify"))
	require.Equal(t, result{0, inSync, ""}, w.run(env, "verify", "--credential-drift=ignore"))
	require.Equal(t, result{2, block(`
		PROVIDER  STATE    FIELD     ENVIRONMENT                      DATABASE
		proxy     changed  api_keys  2, of these 0 not in the database  3, of these 1 not in the environment
		1 of 1 provider drifts.
		`), ""}.squeezed(), w.run(env, "verify", "--credential-drift=alert").squeezed())
	r := w.run(env, "verify", "--credential-drift=warn")
	require.Equal(t, 0, r.code, "a warning is no drift")
	require.Equal(t, inSync, r.stdout)
	require.Equal(t, 1, strings.Count(r.stderr, "level=WARN"), r.stderr)
	require.Contains(t, r.stderr, "provider=proxy")
	require.Contains(t, r.stderr, "2, of these 0 not in the database; db 3, of these 1 not in the environment")
	require.Equal(t, 0, w.run(env.with("PROVWATCH_CREDENTIAL_DRIFT", "ignore"), "verify").code)
	require.Equal(t, 2, w.run(env.with("PROVWATCH_CREDENTIAL_DRIFT", "alert"), "verify").code)
}

// squeezed returns the result with runs of spaces as one.
func (r result) squeezed() result {
	r.stdout = regexp.MustCompile(` {2,}`).ReplaceAllString(r.stdout, " ")
	return r
}

func TestAKeyAddedAndRemovedIsAlertedInCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env, first, second := w.oneProviderWithTwoKeys()
	w.start(env, "run", "--credential-drift=alert").ready().stop()
	env["CODER_AIBRIDGE_PROVIDER_0_KEYS"] = second + "," + first // no difference
	p := w.start(env, "run", "--credential-drift=alert").ready()
	w.addKey("sk-third-0123456789-abcdef")
	w.expectAlerts("changed proxy")
	require.Equal(t, []string{`[{"db": "3, of these 1 not in the environment", "env": "2, of these 0 not in the database", "name": "api_keys"}]`},
		w.strings(`SELECT fields::text FROM provwatch.drift_alerts`))
	w.exec(`UPDATE ai_provider_keys SET updated_at = now()`) // looked at again, and nothing new
	w.exec(`DELETE FROM ai_provider_keys WHERE api_key LIKE 'sk-third%'`)
	w.expectAlerts("changed proxy", "resolved proxy")
	w.exec(`UPDATE ai_provider_keys SET api_key = $1 WHERE api_key = $2`, w.secret("sk-rotated-0123456789-abcdef"), first)
	w.expectAlerts("changed proxy", "resolved proxy", "changed proxy")
	require.Equal(t, []string{`[{"db": "2, of these 1 not in the environment", "env": "2, of these 1 not in the database", "name": "api_keys"}]`},
		w.strings(`SELECT fields::text FROM provwatch.drift_alerts WHERE seq = 3`))
	p.stop()
}

func TestCredentialsThatAreIgnoredOrWarnedOfAreNotAlerted(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"ignore", "warn"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			env, _, _ := w.oneProviderWithTwoKeys()
			p := w.start(env, "run", "--credential-drift="+mode).ready()
			w.addKey("sk-third-0123456789-abcdef")
			if mode == "warn" {
				p.waitFor("level=WARN", "credentials in the database differ", "provider=proxy", "3, of these 1 not in the environment")
			}
			w.exec(`UPDATE ai_provider_keys SET updated_at = now()`)
			w.exec(`NOTIFY ai_providers_changed`)
			// In order: whatever came before has been looked at as well.
			w.exec(`UPDATE ai_providers SET enabled = false`)
			w.expectAlerts("disabled proxy")
			require.Equal(t, []string{`[{"db": "false", "env": "true", "name": "enabled"}]`}, w.strings(`SELECT fields::text FROM provwatch.drift_alerts`))
			require.Equal(t, map[string]int{"ignore": 0, "warn": 1}[mode], p.logged("credentials in the database differ"))
			p.stop()
		})
	}
}

// operator is the actor that the worker names, run by this test's user.
func operator(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	require.NoError(t, err)
	return "operator:" + u.Username
}

func TestTakingTheEnvironmentsSideWritesItsFieldsAndResolvesTheDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const model = `"model": "m", "small_fast_model": "s"`
	env := w.twoProviders()
	for name, value := range map[string]string{
		"TYPE": "anthropic", "NAME": "aws", "BEDROCK_REGION": "eu-west-1", "BEDROCK_MODEL": "m", "BEDROCK_SMALL_FAST_MODEL": "s",
		"BEDROCK_ACCESS_KEY": w.secret("AKIA0123456789ENVIRONMENT"), "BEDROCK_ACCESS_KEY_SECRET": w.secret("aws-secret-0123456789-environment"),
	} {
		env["CODER_AIBRIDGE_PROVIDER_0_"+name] = value
	}
	w.start(env, "run").ready().stop()
	p := w.start(env, "run").ready()
	w.exec(`TRUNCATE provwatch.audit_log`) // of the seed
	var alerts []string
	drift := func(script string, want ...string) {
		t.Helper()
		w.exec(script)
		alerts = append(alerts, want...)
		w.expectAlerts(alerts...)
	}
	resolve := func(output, provider string, args ...string) {
		t.Helper()
		r := w.run(env, append([]string{"resolve", provider, "--take", "env"}, args...)...)
		require.Equal(t, 0, r.code, r.stderr)
		require.Equal(t, output, strings.SplitAfter(r.stdout, "\n")[0])
		alerts = append(alerts, "resolved "+provider)
		w.expectAlerts(alerts...)
	}
	row := func(name string) []string {
		t.Helper()
		return w.strings(`SELECT format('%s %s %s %s %s', type, base_url, enabled, deleted, settings) FROM ai_providers WHERE name = $1`, name)
	}
	keys := func() []string {
		t.Helper()
		return w.strings(`SELECT to_jsonb(k)::text FROM ai_provider_keys k ORDER BY id`)
	}
	keysOf := func(name string) []string {
		t.Helper()
		return w.strings(`SELECT api_key FROM ai_provider_keys k JOIN ai_providers p ON p.id = k.provider_id WHERE p.name = $1`, name)
	}
	openAIRow := []string{"openai https://api.openai.com/v1/ t f "}
	stored := keys()

	drift(`UPDATE ai_providers SET base_url = 'https://proxy.example/', type = 'anthropic' WHERE name = 'openai'`, "changed openai")
	resolve("openai was changed; the environment's fields are written, its keys are not.\n", "openai")
	require.Equal(t, openAIRow, row("openai"))
	require.Equal(t, []string{`{"changes": [{"new": "openai", "old": "anthropic", "field": "type"}, ` +
		`{"new": "https://api.openai.com/v1/", "old": "https://proxy.example/", "field": "base_url"}], ` +
		`"db_hash": "` + w.strings(`SELECT db_hash FROM provwatch.drift_alerts WHERE seq = 1`)[0] + `", "env_hash": "` + openAIHash + `"}`},
		w.delivered(`SELECT details::text FROM provwatch.audit_log`))

	drift(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, "disabled openai")
	resolve("openai was disabled; the environment's fields are written, its keys are not.\n", "openai")
	require.Equal(t, openAIRow, row("openai"))
	drift(`UPDATE ai_providers SET deleted = true WHERE name = 'openai'`, "deleted openai")
	resolve("openai was deleted; the environment's fields are written, its keys are not.\n", "openai")
	require.Equal(t, openAIRow, row("openai"))
	require.Equal(t, stored, keys())

	drift(`DELETE FROM ai_providers WHERE name = 'openai'`, "missing openai")
	resolve("openai was missing; the environment's fields are written, and it has no keys: "+
		"repeat with --with-keys to write those of the environment.\n", "openai")
	require.Equal(t, openAIRow, row("openai"))
	require.Empty(t, keysOf("openai"))
	drift(`DELETE FROM ai_providers WHERE name = 'openai'`, "missing openai")
	resolve("openai was missing; the environment's fields and keys are written.\n", "openai", "--with-keys")
	require.Equal(t, []string{openAIKey}, keysOf("openai"))

	// With keys, what is stored is replaced, and only then.
	w.exec(`UPDATE ai_provider_keys k SET api_key = $1 FROM ai_providers p WHERE p.id = k.provider_id AND p.name = 'openai'`,
		w.secret("sk-rotated-0123456789-abcdefghij"))
	drift(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, "disabled openai")
	resolve("openai was disabled; the environment's fields are written, its keys are not.\n", "openai")
	require.Equal(t, []string{"sk-rotated-0123456789-abcdefghij"}, keysOf("openai"))
	drift(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, "disabled openai")
	resolve("openai was disabled; the environment's fields and keys are written.\n", "openai", "--with-keys")
	require.Equal(t, []string{openAIKey}, keysOf("openai"))

	// A Bedrock provider keeps its rotated credentials.
	drift(`UPDATE ai_providers SET settings = '{"_type": "bedrock", "_version": 1, "region": "us-east-1", `+model+`, "access_key": "`+
		w.secret("AKIA-ROTATED-0123456789")+`", "access_key_secret": "`+w.secret("aws-rotated-0123456789")+`"}' WHERE name = 'aws'`, "changed aws")
	resolve("aws was changed; the environment's fields are written, its keys are not.\n", "aws")
	require.Equal(t, []string{`bedrock  t f {"_type": "bedrock", "_version": 1, "region": "eu-west-1", ` + model +
		`, "access_key": "AKIA-ROTATED-0123456789", "access_key_secret": "aws-rotated-0123456789"}`}, row("aws"))

	// One that becomes a bearer provider would lose them.
	drift(`UPDATE ai_providers SET settings = (SELECT settings FROM ai_providers WHERE name = 'aws') WHERE name = 'anthropic'`, "changed anthropic")
	before := w.dump()
	require.Equal(t, result{1, "", `worker: resolve provider "anthropic": its stored Bedrock credentials (access_key, access_key_secret) would be removed, ` +
		"since the environment's provider is not a Bedrock one; repeat with --with-keys\n"}, w.run(env, "resolve", "anthropic", "--take", "env"))
	require.Equal(t, before, w.dump())
	resolve("anthropic was changed; the environment's fields and keys are written.\n", "anthropic", "--with-keys")
	require.Equal(t, []string{"anthropic https://api.anthropic.com/ t f "}, row("anthropic"))
	require.Equal(t, []string{anthropicKey}, keysOf("anthropic"))

	require.Equal(t, 0, w.run(env, "verify").code)

	// In sync: nothing is written.
	before = w.dump()
	require.Equal(t, result{0, "openai already agrees with the environment; nothing was written.\n", ""}, w.run(env, "resolve", "openai", "--take", "env"))
	require.Equal(t, before, w.dump())
	w.expectAlerts(alerts...)

	require.Equal(t, []string{operator(t)}, w.delivered(`SELECT DISTINCT actor FROM provwatch.audit_log`))
	require.Equal(t, []string{
		"provider.update openai", "provider.update openai", "provider.update openai", // changed, disabled, deleted
		"provider.create openai",                                        // missing
		"provider.create openai", "provider_key.create openai ****ENAI", // missing, with keys
		"provider.update openai",
		"provider.update openai", "provider_key.delete openai ****ghij", "provider_key.create openai ****ENAI",
		"provider.update aws",
		"provider.update anthropic", // whose key was stored already
	}, w.strings(`SELECT concat_ws(' ', action, provider, details ->> 'masked_key') FROM provwatch.audit_log ORDER BY seq`))
	p.stop()
}

func TestAcceptingTheDatabasesSideHoldsUntilEitherSideChanges(t *testing.T) {
	t.Parallel()
	const changed = `UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`
	for kind, drift := range map[string]string{
		"changed":  changed,
		"disabled": `UPDATE ai_providers SET enabled = false WHERE name = 'openai'`,
		"deleted":  `UPDATE ai_providers SET deleted = true WHERE name = 'openai'`,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			env := w.twoProviders()
			p := w.start(env, "run").ready()
			w.exec(drift)
			w.expectAlerts(kind + " openai")
			providers := w.strings(`SELECT to_jsonb(p)::text FROM ai_providers p ORDER BY id`)
			r := w.run(env, "resolve", "openai", "--take", "db")
			require.Equal(t, 0, r.code, r.stderr)
			require.Equal(t, "openai was "+kind+", which is now accepted until either side changes.\n", strings.SplitAfter(r.stdout, "\n")[0])
			want := []string{kind + " openai", "resolved openai"}
			w.expectAlerts(want...)
			accepted := w.strings(`SELECT to_jsonb(a)::text FROM provwatch.accepted_drift a`)
			r = w.run(env, "resolve", "openai", "--take", "db")
			require.Equal(t, 0, r.code, r.stderr)
			require.Equal(t, "openai is "+kind+", which is already accepted until either side changes; nothing was written.\n", strings.SplitAfter(r.stdout, "\n")[0])
			require.Equal(t, accepted, w.strings(`SELECT to_jsonb(a)::text FROM provwatch.accepted_drift a`))
			require.Equal(t, providers, w.strings(`SELECT to_jsonb(p)::text FROM ai_providers p ORDER BY id`), "the database's side stands")
			require.Equal(t, []string{operator(t) + " drift.accept openai " + kind},
				w.delivered(`SELECT concat_ws(' ', actor, action, provider, details ->> 'kind') FROM provwatch.audit_log WHERE actor <> 'system'`))

			// The next boots neither fail nor alert.
			p.stop()
			require.Equal(t, 0, w.run(env, "seed").code)
			require.Equal(t, 0, w.run(env, "seed", "--dry-run").code)
			r = w.run(env, "verify")
			require.Equal(t, 0, r.code)
			require.Contains(t, r.stdout, "openai     "+kind+", accepted")
			p = w.start(env, "run").ready()
			w.expectAlerts(want...)

			// The database's side changes: alerted, and the acceptance is gone for
			// good, also when the change is taken back.
			w.exec(`UPDATE ai_providers SET base_url = base_url || '/elsewhere' WHERE name = 'openai'`)
			want = append(want, kind+" openai")
			w.expectAlerts(want...)
			require.Zero(t, w.count(`SELECT count(*) FROM provwatch.accepted_drift`))
			w.exec(`UPDATE ai_providers SET base_url = replace(base_url, '/elsewhere', '') WHERE name = 'openai'`)
			if kind != "deleted" { // of which the values do not matter
				want = append(want, kind+" openai")
			}
			w.expectAlerts(want...)
			require.Equal(t, 2, w.run(env, "verify").code)

			// Accepted anew; then the environment's side changes.
			require.Equal(t, 0, w.run(env, "resolve", "openai", "--take", "db", "-o", "json").code)
			want = append(want, "resolved openai")
			w.expectAlerts(want...)
			p.stop()
			other := env.with("CODER_AIBRIDGE_OPENAI_BASE_URL", "https://another.example/v1")
			require.Equal(t, 2, w.run(other, "verify").code)
			if kind != "deleted" {
				require.Equal(t, 2, w.run(other, "seed").code)
				require.Equal(t, 2, w.run(other, "run").code)
			}
			p = w.start(other, "run", "--on-boot-drift=alert").ready()
			want = append(want, kind+" openai")
			w.expectAlerts(want...)
			require.Equal(t, []string{"boot"}, w.strings(`SELECT source FROM provwatch.drift_alerts ORDER BY seq DESC LIMIT 1`))
			p.stop()
			// It is not withdrawn for this: a worker with the environment for which it
			// was accepted, as during a deployment, still has it.
			p = w.start(env, "run").ready()
			want = append(want, "resolved openai")
			w.expectAlerts(want...)
			p.stop()
		})
	}
}

func TestResolveRefusesWhatCannotBeResolved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	require.Equal(t, 0, w.run(env, "seed").code)
	w.exec(`DELETE FROM ai_providers WHERE name = 'openai'`)
	before := w.dump()
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"openai --take db", 1, `resolve provider "openai": it has no row that could be kept, and the next boot seeds it again; ` +
			"remove its variables (CODER_AIBRIDGE_OPENAI_*) instead"},
		{"nobody --take env", 3, `the environment names no provider of that name; run "worker verify" with the same environment to see those that it names`},
		{"nobody --take db", 3, `the environment names no provider of that name; run "worker verify" with the same environment to see those that it names`},
		{"opnai --take db", 3, `the environment names no provider of that name; did you mean openai? Or run "worker verify" with the same environment to see those that it names`},
		{"openai", 3, "--take must be env (write the environment's fields to the database) or db (accept the database's)"},
		{"openai --take both", 3, "--take must be env (write the environment's fields to the database) or db (accept the database's)"},
		{"openai --take db --with-keys", 3, "--with-keys goes with --take env"},
		{"", 3, `want one argument: worker resolve NAME --take env|db; see "worker resolve --help"`},
		{"openai anthropic --take db", 3, `want one argument: worker resolve NAME --take env|db; see "worker resolve --help"`},
	} {
		r := w.run(env, append([]string{"resolve"}, strings.Fields(test.args)...)...)
		require.Equal(t, result{test.code, "", "worker: " + test.want + "\n"}, r, test.args)
	}
	require.Equal(t, before, w.dump())
}

var alertTime = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  `)

func TestWatchFollowsTheAlertsAndCanCatchUp(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	p := w.start(w.twoProviders(), "run").ready()
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`)
	w.expectAlerts("changed openai")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
	w.expectAlerts("changed openai", "disabled anthropic")

	fresh := w.start(nil, "watch")
	all := w.start(nil, "watch", "--since", "0")
	last := w.start(nil, "watch", "--since", "1", "-o", "json")
	for _, watch := range []*worker{fresh, all, last} {
		watch.waitFor("msg=listening")
	}
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'anthropic'`)
	w.expectAlerts("changed openai", "disabled anthropic", "resolved anthropic")
	eventually(t, func() bool { return len(fresh.output()) >= 1 && len(all.output()) >= 5 && len(last.output()) >= 2 }, "the alerts are printed")

	// SIGTERM ends it in order; all has been printed by then.
	for _, watch := range []*worker{fresh, all, last} {
		watch.stop()
	}
	text := func(watch *worker) []string {
		t.Helper()
		printed := strings.Join(watch.output(), "\n")
		require.Len(t, alertTime.FindAllString(printed, -1), strings.Count(printed, "#"))
		return strings.Split(alertTime.ReplaceAllString(printed, ""), "\n")
	}
	require.Equal(t, []string{"#3  resolved  anthropic  (notify)"}, text(fresh))
	require.Equal(t, []string{
		"#1  changed  openai  (notify)",
		"    base_url  env https://api.openai.com/v1/  db https://proxy.example/v1",
		"#2  disabled  anthropic  (notify)",
		"    enabled  env true  db false",
		"#3  resolved  anthropic  (notify)",
	}, text(all))
	// The JSON lines are the payloads that were published.
	require.Len(t, last.output(), 2)
	for i, line := range last.output() {
		var printed, published pubsub.DriftAlert
		require.NoError(t, json.Unmarshal([]byte(line), &printed))
		require.NoError(t, json.Unmarshal([]byte(w.payloads(pubsub.DriftAlerts)[i+1]), &published))
		require.WithinDuration(t, published.DetectedAt, printed.DetectedAt, time.Microsecond)
		published.DetectedAt = printed.DetectedAt
		require.Equal(t, published, printed)
	}
	p.stop()
}

func TestWatchNeitherMissesNorRepeatsAnAlertWhenItsConnectionsAreTerminated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(w.twoProviders(), "run").ready()
	watch := w.start(environ{"DATABASE_URL": w.url + "&application_name=watcher"}, "watch", "-o", "json")
	watch.waitFor("msg=listening")
	var want []string
	const rounds = 3
	for i := range rounds {
		require.NotZero(t, w.count(`SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name LIKE 'watcher%'`))
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
		want = append(want, []string{"disabled", "resolved"}[i%2]+" openai")
		w.expectAlerts(want...)
		eventually(t, func() bool { return len(watch.output()) > i }, "alert %d is printed", i+1)
	}
	watch.stop()
	var seqs []int64
	for _, line := range watch.output() {
		var alert pubsub.DriftAlert
		require.NoError(t, json.Unmarshal([]byte(line), &alert))
		seqs = append(seqs, alert.Seq)
	}
	require.Equal(t, []int64{1, 2, 3}, seqs)
	require.GreaterOrEqual(t, watch.logged("listening connection lost"), rounds)
	p.stop()
}

func TestWatchBeforeAnyMigrationSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	require.Equal(t, result{4, "", "worker: the database's schema cannot be used: provwatch's tables are not there yet; " +
		"start \"worker run\", or run \"worker migrate\"\n"}, w.run(nil, "watch"))
	w.unmigrated()
}

func TestMigrationsAreShownMadeCheckedAndRepaired(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	w.source = "notify"
	env := w.twoProviders()
	schema := func(state, applied, pending string, missing bool) string {
		todo, triggers, made := "", "yes", "provwatch"
		if missing {
			triggers = "no"
		}
		if applied == "none" {
			made = "nobody yet, provwatch will"
		}
		switch {
		case pending != "none":
			todo = "  to be done by \"worker migrate\": migrations [" + strings.ReplaceAll(pending, ",", "") + "], triggers on the provider tables\n"
		case missing:
			todo = "  to be done by \"worker migrate\": triggers on the provider tables\n"
		}
		return fmt.Sprintf("Schema %s.\n  migrations applied: %s\n  migrations pending: %s\n  triggers: %s\n  publication: no\n  provider tables made by: %s\n%s",
			state, applied, pending, triggers, made, todo)
	}
	versions := w.migrationVersions()
	list := strings.Join(versions, ", ")
	require.Equal(t, result{0, schema("not there yet", "none", list, true), ""}, w.run(nil, "migrate", "--dry-run"))
	r := w.run(nil, "migrate", "--dry-run", "-o", "json")
	require.JSONEq(t, `{"changed": false, "up_to_date": false, "done": [], "lacks": ["migrations [`+strings.Join(versions, " ")+`]", "triggers on the provider tables"],
		"schema": {"foreign_provider_tables": false, "applied": [], "pending": [`+list+`], "triggers": false, "some_triggers": false, "publication": false}}`, r.stdout)
	for _, command := range []string{"run", "seed"} {
		r = w.run(env, command, "--migrate=check")
		require.Equal(t, 4, r.code)
		require.Equal(t, "worker: the database's schema cannot be used: it is not up to date (migrations ["+strings.Join(versions, " ")+
			"], triggers on the provider tables); run \"worker migrate\", or use --migrate=auto\n", r.stderr)
		r = w.run(env, command, "--migrate=off")
		require.Equal(t, 4, r.code)
		require.Equal(t, "worker: the database's schema cannot be used: migrations ["+strings.Join(versions, " ")+
			"] are pending and --migrate=off leaves them so; run \"worker migrate\"\n", r.stderr)
	}
	w.unmigrated()

	require.Equal(t, result{0, schema("up to date, migrated now", list, "none", false), ""}, w.run(nil, "migrate"))
	before := w.dump()
	require.Equal(t, result{0, schema("up to date", list, "none", false), ""}, w.run(nil, "migrate"))
	require.Equal(t, result{0, schema("up to date", list, "none", false), ""}, w.run(nil, "migrate", "--dry-run"))
	require.Equal(t, before, w.dump())
	require.Equal(t, 0, w.run(env, "seed", "--migrate=check").code)
	require.Equal(t, 0, w.run(env, "seed", "--migrate=off").code)

	// A trigger that is dropped, is disabled, or no longer fires in every session is noticed
	// and put back.
	for _, damage := range []string{
		`DROP TRIGGER provwatch_provider_update ON ai_providers`,
		`ALTER TABLE ai_provider_keys DISABLE TRIGGER provwatch_key_insert`,
		`ALTER TABLE ai_provider_keys ENABLE REPLICA TRIGGER provwatch_key_insert`,
		`ALTER TABLE ai_providers ENABLE TRIGGER ALL`,
	} {
		w.exec(damage)
		require.Equal(t, result{0, schema("not up to date", list, "none", true), ""}, w.run(nil, "migrate", "--dry-run"))
		r = w.run(env, "seed", "--migrate=check")
		require.Equal(t, 4, r.code)
		require.Contains(t, r.stderr, "(triggers on the provider tables)")
		r = w.run(env, "seed", "--migrate=off")
		require.Equal(t, 0, r.code)
		require.Contains(t, r.stderr, "level=WARN")
		require.Contains(t, r.stderr, `remedy="run \"worker migrate\""`)
		require.Equal(t, result{0, schema("up to date, migrated now", list, "none", false), ""}, w.run(nil, "migrate"))
		require.Equal(t, 8, w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%' AND tgenabled = 'A'`))
	}
	p := w.start(env, "run", "--migrate=check").ready()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.stop()
}

// migrationVersions returns the versions of the migrations in the tree.
func (w *world) migrationVersions() []string {
	w.t.Helper()
	files, err := filepath.Glob("../sql/migrations/*.sql")
	require.NoError(w.t, err)
	require.NotEmpty(w.t, files)
	var versions []string
	for _, file := range files {
		number, _, _ := strings.Cut(filepath.Base(file), "_")
		versions = append(versions, strings.TrimLeft(number, "0"))
	}
	return versions
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	require.Equal(t, result{0, "provwatch worker test (commit 0123abc, " + runtime.Version() + ")\n", ""}, w.run(nil, "version"))
	r := w.run(nil, "version", "-o", "json")
	require.JSONEq(t, `{"version": "test", "commit": "0123abc", "go": "`+runtime.Version()+`"}`, r.stdout)
	require.Equal(t, result{0, "worker version test\n", ""}, w.run(nil, "--version"))

	r = w.run(nil, "--help")
	require.Equal(t, 0, r.code)
	require.Contains(t, r.stdout, "Exit codes: 0 ok, 1 failure, 2 drift found, 3 bad environment or flags, 4 database unreachable or schema unusable.")
	for _, command := range []string{"run", "seed", "verify", "resolve", "watch", "migrate", "version"} {
		require.Regexp(t, `(?m)^  `+command+` +[A-Z]`, r.stdout)
		help := w.run(nil, command, "--help")
		require.Equal(t, 0, help.code)
		require.Contains(t, help.stdout, "worker "+command)
		require.Contains(t, help.stdout, "--log-format")
	}
	w.unmigrated()
}

func TestOutputHasColourOnATerminalAlone(t *testing.T) {
	t.Parallel()
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("script(1) of util-linux is not installed")
	}
	w := newWorld(t)
	env := w.twoProviders()
	for _, args := range []string{"seed --dry-run", "verify", "migrate --dry-run", "version"} {
		r := w.run(env, strings.Fields(args)...)
		require.NotContains(t, r.stdout+r.stderr, "\x1b", "in a pipe: %s", args)
	}
	onTerminal := func(env environ, args string) string {
		t.Helper()
		command := w.command(env)
		command.Path, command.Args = script, []string{"script", "-qec", workerBinary + " " + args, "/dev/null"}
		out, err := command.CombinedOutput()
		var exit *exec.ExitError
		if err != nil {
			require.ErrorAs(t, err, &exit)
		}
		w.emit(string(out))
		return string(out)
	}
	env["TERM"] = "xterm"
	require.Contains(t, onTerminal(env, "seed --dry-run"), "\x1b[32m+\x1b[0m")
	require.Contains(t, onTerminal(env, "verify"), "\x1b[33mmissing\x1b[0m")
	for _, plain := range []environ{env.with("NO_COLOR", "1"), env.with("TERM", "dumb")} {
		out := onTerminal(plain, "verify")
		require.Contains(t, out, "missing")
		require.NotContains(t, out, "\x1b")
	}
	require.NotContains(t, onTerminal(env, "verify -o json"), "\x1b")
}

// decoy is a server that counts who connects and answers nobody.
type decoy struct {
	url         string
	connections atomic.Int64
}

func newDecoy(t *testing.T, w *world) *decoy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d := &decoy{url: "postgres://u:" + w.secret("pw-of-the-decoy") + "@" + listener.Addr().String() + "/d"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			d.connections.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return d
}

func TestBadInputIsOneClearMessageBeforeAnythingConnects(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	d := newDecoy(t, w)
	good := environ{"DATABASE_URL": d.url, "CODER_AIBRIDGE_OPENAI_KEY": w.secret(openAIKey)}
	const pasted = "sk-pasted-in-the-wrong-place-0123456789"
	w.secret(pasted)
	malformed := w.file("malformed.env", "CODER_AIBRIDGE_OPENAI_KEY=fine\nCODER_AIBRIDGE_ANTHROPIC_KEY "+pasted+"\n")
	folder := t.TempDir()
	absent := filepath.Join(folder, "absent.env")

	tests := []struct {
		name string
		env  environ // beside good
		args string
		want string // without "worker: " and the final line break
	}{
		{"unknown command", nil, "frobnicate", `unknown command; see "worker --help"`},
		{"misspelt command", nil, "verfy", `unknown command; did you mean "verify"?; see "worker --help"`},
		{"unknown command of a group", nil, "sinks frobnicate", `unknown command; "worker sinks" has list, retry; see "worker sinks --help"`},
		{"misspelt command of a group", nil, "sinks retr", `unknown command; did you mean "retry"?; see "worker sinks --help"`},
		{"unknown shell", nil, "completion nosh", `the shell must be one of bash, fish, powershell, zsh; see "worker completion --help"`},
		{"no shell", nil, "completion", `the shell must be one of bash, fish, powershell, zsh; see "worker completion --help"`},
		{"help of an unknown command", nil, "help frobnicate", `unknown command; see "worker --help"`},
		{"help of an unknown command of a group", nil, "help sinks retr", `unknown command; did you mean "retry"?; see "worker sinks --help"`},
		{"argument too many", nil, "run now", `"worker run" takes no arguments; see "worker run --help"`},
		{"variable as an argument", nil, "run CODER_AIBRIDGE_OPENAI_KEY=" + pasted, `"worker run" takes no arguments; set a variable before the command, as in NAME=VALUE worker run; see "worker run --help"`},
		{"variable as a command", nil, "CODER_AIBRIDGE_OPENAI_KEY=" + pasted, `unknown command; set a variable before the command, as in NAME=VALUE worker; see "worker --help"`},
		{"unknown flag", nil, "run --frob", `unknown flag; see "worker run --help"`},
		{"misspelt flag", nil, "run --htp-addr=x", `unknown flag; did you mean --http-addr?; see "worker run --help"`},
		{"flag of another command", nil, "verify --resync=1m", `--resync is a flag of "worker run"; see "worker verify --help"`},
		{"flag without value", nil, "watch --since", `--since needs a value; see "worker watch --help"`},
		{"not a duration", nil, "run --resync=soon", `the value of --resync cannot be used: want a duration, such as 30s; see "worker run --help"`},
		{"duration without a unit", nil, "run --resync=5", `the value of --resync cannot be used: want a duration with its unit, such as 5s; see "worker run --help"`},
		{"not a number", nil, "watch --since=first", `the value of --since cannot be used: want a whole number; see "worker watch --help"`},
		{"negative duration", nil, "run --resync=-1s", "--resync (or PROVWATCH_RESYNC) must be positive, such as 30s"},
		{"zero timeout", nil, "verify --connect-timeout=0s", "--connect-timeout (or PROVWATCH_CONNECT_TIMEOUT) must be positive, such as 30s"},
		{"zero shutdown", nil, "run --shutdown-timeout=0s", "--shutdown-timeout (or PROVWATCH_SHUTDOWN_TIMEOUT) must be positive, such as 30s"},
		{"no such form", nil, "verify -o yaml", `--output (or PROVWATCH_OUTPUT) must be one of text, json`},
		{"no such log form", nil, "run --log-format=xml", `--log-format (or PROVWATCH_LOG_FORMAT) must be one of text, json`},
		{"no such level", nil, "run --log-level=loud", `--log-level (or PROVWATCH_LOG_LEVEL) must be one of debug, info, warn, error`},
		{"no such migration mode", nil, "seed --migrate=maybe", `--migrate (or PROVWATCH_MIGRATE) must be one of auto, check, off`},
		{"no such credential mode", nil, "verify --credential-drift=fail", `--credential-drift (or PROVWATCH_CREDENTIAL_DRIFT) must be one of ignore, warn, alert`},
		{"no such compat", nil, "seed --compat=upstream", `--compat (or PROVWATCH_COMPAT) must be one of none, upstream-credentials`},
		{"compat that nobody minds", environ{"PROVWATCH_COMPAT": "upstream-credentials"}, "run --on-boot-drift=alert",
			"--compat=upstream-credentials finds credentials that differ at the start, which --on-boot-drift=alert leaves to the watch, " +
				"and that ignores them: use --on-boot-drift=fail, or set --credential-drift (or PROVWATCH_CREDENTIAL_DRIFT) to warn or alert"},
		{"no such drift mode", nil, "run --on-boot-drift=ignore", `--on-boot-drift (or PROVWATCH_ON_BOOT_DRIFT) must be one of fail, alert`},
		{"debug without HTTP", nil, "run --debug", "--debug (or PROVWATCH_DEBUG) serves the profiler on --http-addr, which is not set"},
		{"several", environ{"PROVWATCH_CONNECT_TIMEOUT": "soon"}, "run --source=notfy --resync=0", "PROVWATCH_CONNECT_TIMEOUT cannot be used for --connect-timeout: want a duration, such as 30s\n" +
			"--source (or PROVWATCH_SOURCE) must be one of auto, notify, wal\n--resync (or PROVWATCH_RESYNC) must be positive, such as 30s"},
		{"HTTP address without port", nil, "run --http-addr=localhost", "--http-addr (or PROVWATCH_HTTP_ADDR) must be HOST:PORT, such as 127.0.0.1:9464"},
		{"HTTP address of no port", nil, "run --http-addr=127.0.0.1:many", "--http-addr (or PROVWATCH_HTTP_ADDR) must be HOST:PORT, such as 127.0.0.1:9464"},
		{"HTTP port too large", nil, "run --http-addr=127.0.0.1:65536", "--http-addr (or PROVWATCH_HTTP_ADDR) must be HOST:PORT, such as 127.0.0.1:9464"},

		{"variable not a duration", environ{"PROVWATCH_RESYNC": pasted}, "run", "PROVWATCH_RESYNC cannot be used for --resync: want a duration, such as 30s"},
		{"variable not a bool", environ{"PROVWATCH_DEBUG": pasted}, "run", "PROVWATCH_DEBUG cannot be used for --debug: want true or false"},
		{"variable of no choice", environ{"PROVWATCH_MIGRATE": "maybe"}, "run", `--migrate (or PROVWATCH_MIGRATE) must be one of auto, check, off`},
		{"variable of no choice, alone", environ{"PROVWATCH_ON_BOOT_DRIFT": "maybe"}, "", `--on-boot-drift (or PROVWATCH_ON_BOOT_DRIFT) must be one of fail, alert`},
		{"variable not positive", environ{"PROVWATCH_CONNECT_TIMEOUT": "-5s"}, "migrate", "--connect-timeout (or PROVWATCH_CONNECT_TIMEOUT) must be positive, such as 30s"},

		{"database URL that does not parse", environ{"DATABASE_URL": "postgres://u:" + pasted + "@host:port/d"}, "run",
			"DATABASE_URL has a port that is not a number from 1 to 65535: percent-encode special characters of the password, which may have ended up there"},
		{"database URL that is none", environ{"DATABASE_URL": pasted}, "watch",
			"DATABASE_URL is not a connection string: write a URL that begins with postgres:// or postgresql://, or libpq keywords such as host=HOST dbname=NAME"},
		{"PG variables that cannot be used", environ{"DATABASE_URL": "", "PGHOST": "h", "PGPORT": "many", "PGPASSWORD": pasted}, "run",
			"PGPORT has a port that is not a number from 1 to 65535: it must hold that value alone; a connection string goes into DATABASE_URL"},

		{"broken environment", environ{
			"CODER_AIBRIDGE_PROVIDER_0_TYPE": "openai", "CODER_AIBRIDGE_PROVIDER_0_NAME": "No_" + pasted,
			"CODER_AIBRIDGE_PROVIDER_0_BASE_URL": "not a url " + pasted,
			"CODER_AIBRIDGE_PROVIDER_2_KEYS":     pasted + ",," + pasted,
			"CODER_AI_GATEWAY_OPENAI_KEY":        pasted,
		}, "run", strings.Join([]string{
			"7 errors in the environment:",
			"  CODER_AI_GATEWAY_OPENAI_KEY: is set to another value than CODER_AIBRIDGE_OPENAI_KEY, which means the same; remove one of them",
			"  CODER_AIBRIDGE_PROVIDER_0_BASE_URL: is not an absolute http or https URL with a host; write it as https://HOST/PATH",
			"  CODER_AIBRIDGE_PROVIDER_0_NAME: the name does not match ^[a-z0-9]+(-[a-z0-9]+)*$ (lower-case letters and digits, with single hyphens between)",
			"  CODER_AIBRIDGE_PROVIDER_2_KEYS: index 1 is skipped; number the providers 0, 1, 2, … without a gap",
			"  CODER_AIBRIDGE_PROVIDER_2_KEYS: its provider has no type; set CODER_AIBRIDGE_PROVIDER_2_TYPE to " +
				"anthropic, azure, bedrock, copilot, google, openai, openai-compat, openrouter or vercel",
			"  CODER_AIBRIDGE_PROVIDER_2_KEYS: element 1 is empty; remove it, or the comma before or after it",
			"  CODER_AIBRIDGE_PROVIDER_2_KEYS: element 2 repeats element 0",
		}, "\n")},
		{"environment file that is not there", nil, "run --env-file=" + absent,
			"1 error in the environment:\n  " + absent + ": the environment file cannot be read: no such file or directory"},
		{"environment file that is a folder", environ{"PROVWATCH_ENV_FILE": folder}, "verify",
			"1 error in the environment:\n  " + folder + ": the environment file cannot be read: it is a directory, not a regular file"},
		{"environment file that does not parse", nil, "seed --env-file=" + malformed,
			"1 error in the environment:\n  " + malformed + ": line 2: missing =; write NAME=value, with the value in single quotes if it holds \", # or \\"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &world{t: t, secrets: w.secrets}
			env := good
			for name, value := range test.env {
				env = env.with(name, value)
			}
			require.Equal(t, result{3, "", "worker: " + test.want + "\n"}, w.run(env, strings.Fields(test.args)...))
			for _, secret := range w.secrets {
				require.NotContains(t, w.emitted.String(), secret)
			}
		})
	}
	require.Zero(t, d.connections.Load(), "nothing connects")

	// The decoy would have noticed.
	r := w.run(good, "run", "--connect-timeout=200ms")
	require.Equal(t, 4, r.code)
	require.NotZero(t, d.connections.Load())
	require.NotContains(t, r.stderr, "pw-of-the-decoy")
}

func TestADatabaseThatCannotBeReachedIsExitCode4(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	// A listener whose backlog takes connections that nobody answers.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	password := w.secret("pw-that-nobody-sees")
	for name, address := range map[string]string{"silent": silent.Addr().String(), "refusing": closed.Addr().String()} {
		for _, command := range []string{"run", "seed", "verify", "watch", "migrate"} {
			r := w.run(env.with("DATABASE_URL", "postgres://u:"+password+"@"+address+"/d?sslmode=disable"), command, "--connect-timeout=300ms")
			require.Equal(t, 4, r.code, "%s: %s", name, r.stderr)
			require.Contains(t, r.stderr, "worker: cannot connect to PostgreSQL at "+address+"/d: ")
			if name == "silent" {
				require.Contains(t, r.stderr, "no answer within 300ms")
			}
			require.True(t, strings.HasSuffix(r.stderr, "; check DATABASE_URL (or --database-url-file, or PG*), that the server runs, and --connect-timeout\n"), r.stderr)
		}
	}

	// Waiting does not mend a wrong name, and is not tried.
	config, err := pgx.ParseConfig(w.url)
	require.NoError(t, err)
	for _, command := range []string{"run", "migrate"} {
		r := w.run(env.with("DATABASE_URL", strings.Replace(w.url, "/"+config.Database+"?", "/no_such_database?", 1)), command, "--connect-timeout=1h")
		require.Equal(t, 4, r.code)
		require.NotContains(t, r.stderr, "trying again")
		require.Contains(t, r.stderr, `database "no_such_database" does not exist (SQLSTATE 3D000)`)
	}
}

// role makes a role that is dropped at the end of the test, and returns the URL
// that connects as it.
func (w *world) role(suffix string) (name, url string) {
	w.t.Helper()
	config, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	name = config.Database + "_" + suffix
	w.exec(`CREATE ROLE ` + name + ` LOGIN`)
	w.t.Cleanup(func() { // before the database is dropped
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, w.url)
		require.NoError(w.t, err)
		_, err = conn.Exec(ctx, `DROP OWNED BY `+name+` CASCADE; DROP ROLE `+name)
		require.NoError(w.t, err)
		require.NoError(w.t, conn.Close(ctx))
	})
	return name, w.as(name)
}

func TestARoleThatMayNotCreateIsToldWhatItNeeds(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	role, url := w.role("reader")
	env := w.twoProviders().with("DATABASE_URL", url)
	for _, args := range []string{"run", "seed", "migrate"} {
		r := w.run(env, strings.Fields(args)...)
		require.Equal(t, 4, r.code)
		require.Equal(t, "worker: the database's schema cannot be used: cannot create the schema provwatch "+
			"(the role needs CREATE on the database; or run \"worker migrate\" as the owner): "+
			"ERROR: permission denied for database "+strings.TrimSuffix(role, "_reader")+" (SQLSTATE 42501)\n", r.stderr)
	}
	w.unmigrated()
	// To look is not to create.
	require.Equal(t, 0, w.run(env, "seed", "--dry-run").code)
	require.Equal(t, 0, w.run(env, "migrate", "--dry-run").code)
	w.unmigrated()
}

func TestASecondSignalEndsAWorkerThatIsBlockedWhileStopping(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.migrate()
	env := w.twoProviders()
	unlock := w.lock("provwatch.audit_log", "EXCLUSIVE")
	p := w.start(env, "run", "--shutdown-timeout=10m").ready()
	eventually(t, func() bool { return w.waiting("provwatch.audit_log") }, "the delivery waits")
	p.signal(syscall.SIGTERM)
	p.waitFor("msg=stopping")
	// Signals that arrive together count as one, so it takes some more.
	eventually(t, func() bool {
		_ = p.command.Process.Signal(syscall.SIGTERM) // may have ended
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	}, "the worker ends")
	require.Equal(t, 1, p.wait())
	require.Zero(t, p.logged("msg=stopped"))
	w.endSessions()
	unlock()
	require.Equal(t, 4, w.count(`SELECT count(*) FROM provwatch.audit_outbox`))

	// Nothing is lost: the next boot delivers.
	p = w.start(env, "run").ready()
	w.expectAuditOfTwoProviders()
	p.stop()
}

func TestStoppingTakesNoLongerThanTheShutdownTimeout(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	w.migrate()
	env := w.twoProviders()
	unlock := w.lock("provwatch.audit_log", "EXCLUSIVE")
	p := w.start(env, "run", "--shutdown-timeout=1s").ready()
	eventually(t, func() bool { return w.waiting("provwatch.audit_log") }, "the delivery waits")
	start := time.Now()
	p.stop() // with exit code 0, though the delivery would wait for the lock's end
	require.GreaterOrEqual(t, time.Since(start), 900*time.Millisecond, "it tried to deliver")
	require.Equal(t, 1, p.logged("level=WARN", "audit entries stay in the outbox until the next start"))
	require.Equal(t, 1, p.logged("msg=stopped"))
	require.Equal(t, 4, w.count(`SELECT count(*) FROM provwatch.audit_outbox`))
	w.endSessions()
	unlock()

	p = w.start(env, "run").ready()
	w.expectAuditOfTwoProviders()
	p.stop()
}

func TestAWorkerStoppedWhileItBootsExitsInOrder(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	w.migrate()
	unlock := w.lock("ai_providers", "EXCLUSIVE")
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := w.start(w.twoProviders(), "run")
		eventually(t, func() bool { return w.waiting("ai_providers") }, "the seed waits")
		p.signal(s)
		require.Equal(t, 0, p.wait())
		eventually(t, func() bool { return !w.waiting("ai_providers") }, "its session ends")
	}
	unlock()
	require.Zero(t, w.count(`SELECT count(*) FROM ai_providers`))
}

func TestAnEnvironmentFileThatIsNotReadableIsNamed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, who runs the worker as somebody else")
	}
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	w := &world{t: t}
	file := w.file("closed.env", "CODER_AIBRIDGE_OPENAI_KEY="+w.secret(openAIKey)+"\n")
	require.NoError(t, os.Chmod(file, 0o600))
	for dir := filepath.Dir(file); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	var uid, gid uint32
	_, err = fmt.Sscan(nobody.Uid+" "+nobody.Gid, &uid, &gid)
	require.NoError(t, err)
	command := w.command(environ{"DATABASE_URL": "postgres://127.0.0.1:1/d"}, "run", "--env-file", file)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.ExitCode())
	require.Equal(t, "worker: 1 error in the environment:\n  "+file+": the environment file cannot be read: permission denied\n", string(out))
}

// TestCommandsThatFoundNothingToDoSayWhy keeps a prefix or a name misspelt from
// passing for success.
func TestCommandsThatFoundNothingToDoSayWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"seed", "seed --dry-run", "verify"} {
		r := w.run(environ{"CODER_AIBRIDE_OPENAI_KEY": "sk-misspelt"}, strings.Fields(name)...)
		require.Equal(t, 0, r.code, r.stderr)
		require.Contains(t, r.stderr, "the environment names no provider")
	}
	r := w.run(nil, "sinks", "retry", "nosuch", "--all")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, `there is no sink: no worker has sent this database's events to any`)
}
