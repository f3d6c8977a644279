//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

const (
	keysVariable     = "CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS"
	keysFileVariable = keysVariable + "_FILE"
)

const (
	awsAccessKey = "AKIA0123456789ABCDEF"
	awsSecret    = "aws-secret-0123456789-abcdefghij"
	// awsSettings are those of a Bedrock provider as the gateway stores them.
	awsSettings = `{"_type":"bedrock","_version":1,"access_key":"` + awsAccessKey + `","access_key_secret":"` + awsSecret + `","external_id":"ext-1",` +
		`"model":"arn:profile-a","protocol":"invoke-model","region":"us-east-1","role_arn":"arn:aws:iam::123456789012:role/B","small_fast_model":"arn:profile-b"}`
)

// awsAndOpenAI names a Bedrock provider aws and a provider openai with one key.
func (w *world) awsAndOpenAI() environ {
	return environ{
		"CODER_AIBRIDGE_OPENAI_KEY":                           w.secret(openAIKey),
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":                      "anthropic",
		"CODER_AIBRIDGE_PROVIDER_0_NAME":                      "aws",
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_REGION":            "us-east-1",
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY":        w.secret(awsAccessKey),
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET": w.secret(awsSecret),
	}
}

// administrator writes to the tables as the gateway and its administrator do, with
// the independent writer of the gateway's format.
type administrator struct {
	w    *world
	keys map[string]dbcrypttest.Key // by digest
}

// administrator returns the administrator, who knows the keys. Nothing may emit them.
func (w *world) administrator(keys ...dbcrypttest.Key) *administrator {
	a := &administrator{w: w, keys: map[string]dbcrypttest.Key{}}
	for _, key := range keys {
		w.secret(key.Text())
		a.keys[key.Digest()] = key
	}
	return a
}

// register makes the key active, as the gateway does at its start.
func (a *administrator) register(key dbcrypttest.Key) {
	a.w.t.Helper()
	a.w.exec(`INSERT INTO dbcrypt_keys (number, active_key_digest, test) SELECT coalesce(max(number), 0) + 1, $1, $2 FROM dbcrypt_keys`, key.Digest(), key.Encrypt("coder"))
}

// revoke takes the key out of use. The gateway's foreign keys refuse that while a
// value is encrypted with it.
func (a *administrator) revoke(key dbcrypttest.Key) {
	a.w.t.Helper()
	a.w.exec(`UPDATE dbcrypt_keys SET active_key_digest = NULL, revoked_key_digest = active_key_digest, revoked_at = now() WHERE active_key_digest = $1`, key.Digest())
}

// storedSecret is a column of a row.
type storedSecret struct {
	Column   string // settings, api_key
	ID       uuid.UUID
	Provider string
	Stored   string
	KeyID    string // empty for plain text
}

// stored returns the secrets of the providers named, of all for none.
func (a *administrator) stored(names ...string) []storedSecret {
	a.w.t.Helper()
	rows, err := a.w.db.Query(a.w.t.Context(), `
		SELECT 'settings', id, name, settings, coalesce(settings_key_id, '') FROM ai_providers
		WHERE settings IS NOT NULL AND (cardinality($1::text[]) = 0 OR name = ANY ($1))
		UNION ALL
		SELECT 'api_key', k.id, p.name, k.api_key, coalesce(k.api_key_key_id, '') FROM ai_provider_keys k JOIN ai_providers p ON p.id = k.provider_id
		WHERE cardinality($1::text[]) = 0 OR p.name = ANY ($1)
		ORDER BY 3, 1 DESC, 2`, append([]string{}, names...))
	require.NoError(a.w.t, err)
	secrets, err := pgx.CollectRows(rows, pgx.RowToStructByPos[storedSecret])
	require.NoError(a.w.t, err)
	return secrets
}

// plain decrypts a stored secret.
func (a *administrator) plain(s storedSecret) string {
	a.w.t.Helper()
	if s.KeyID == "" {
		return s.Stored
	}
	key, known := a.keys[s.KeyID]
	require.True(a.w.t, known, "key %s of %s is not one of the administrator's", s.KeyID, s.Provider)
	plain, err := key.Decrypt(s.Stored)
	require.NoError(a.w.t, err)
	return plain
}

// values returns all secrets decrypted, each with its place.
func (a *administrator) values() (values []string) {
	a.w.t.Helper()
	for _, s := range a.stored() {
		values = append(values, fmt.Sprintf("%s %s %s %s", s.Provider, s.Column, s.ID, a.plain(s)))
	}
	return values
}

// digests returns what all secrets are encrypted with, each once; "plain" for none.
func (a *administrator) digests() []string {
	a.w.t.Helper()
	found := map[string]bool{}
	for _, s := range a.stored() {
		if s.KeyID == "" {
			s.KeyID = "plain"
		}
		found[s.KeyID] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// write replaces a stored secret, encrypted with the key or, nil, in plain text.
func (a *administrator) write(s storedSecret, plain string, key *dbcrypttest.Key) {
	a.w.t.Helper()
	stored, keyID := plain, (*string)(nil)
	if key != nil {
		digest := key.Digest()
		stored, keyID = key.Encrypt(plain), &digest
	}
	if s.Column == "settings" {
		a.w.exec(`UPDATE ai_providers SET settings = $2, settings_key_id = $3, updated_at = now() WHERE id = $1`, s.ID, stored, keyID)
		return
	}
	a.w.exec(`UPDATE ai_provider_keys SET api_key = $2, api_key_key_id = $3, updated_at = now() WHERE id = $1`, s.ID, stored, keyID)
}

// rewrite stores the secrets of the providers again, encrypted with the key or, nil, in
// plain text: each provider with its keys in one transaction.
func (a *administrator) rewrite(key *dbcrypttest.Key, names ...string) {
	a.w.t.Helper()
	for _, name := range names {
		a.w.exec("BEGIN")
		for _, s := range a.stored(name) {
			a.write(s, a.plain(s), key)
		}
		a.w.exec("COMMIT")
	}
}

// replace replaces a part of a provider's settings and keys, which stay encrypted as
// they are.
func (a *administrator) replace(name, old, replacement string) {
	a.w.t.Helper()
	for _, s := range a.stored(name) {
		if plain := a.plain(s); strings.Contains(plain, old) {
			key, encrypted := a.keys[s.KeyID]
			with := &key
			if !encrypted {
				with = nil
			}
			a.write(s, strings.ReplaceAll(plain, old, replacement), with)
		}
	}
}

// requireReadable checks that the gateway can decrypt and decode what is stored:
// otherwise its whole list of providers fails.
func (a *administrator) requireReadable() {
	a.w.t.Helper()
	active := a.w.strings(`SELECT active_key_digest FROM dbcrypt_keys WHERE active_key_digest IS NOT NULL`)
	for _, s := range a.stored() {
		if s.KeyID != "" {
			require.Contains(a.w.t, active, s.KeyID, "%s of %s", s.Column, s.Provider)
		}
		plain := a.plain(s)
		if s.Column == "api_key" {
			require.NotEmpty(a.w.t, plain, s.Provider)
			continue
		}
		var settings struct {
			Type    string `json:"_type"`
			Version *int   `json:"_version"`
		}
		require.NoError(a.w.t, json.Unmarshal([]byte(plain), &settings), s.Provider)
		require.Equal(a.w.t, "bedrock", settings.Type, s.Provider)
		require.Equal(a.w.t, 1, *settings.Version, s.Provider)
	}
}

// becomes waits until the worker's readiness has the status and contains all texts.
func (p *worker) becomes(status int, texts ...string) {
	p.w.t.Helper()
	var code int
	var body string
	eventually(p.w.t, func() bool {
		code, body = p.get("/readyz")
		return code == status && !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(body, text) })
	}, "/readyz answers %d %q, and not %s", status, texts, lazily(func() []string { return []string{fmt.Sprint(code), body} }))
}

// reload rewrites the environment file, and waits until the worker has read it.
func (p *worker) reload(file string, env environ) {
	p.w.t.Helper()
	before := p.logged("environment reloaded")
	p.w.rewrite(file, env.File())
	p.signal(syscall.SIGHUP)
	eventually(p.w.t, func() bool { return p.logged("environment reloaded") > before }, "the worker reads its environment again:\n%s", lazily(p.lines))
}

// testSeedEncryptionIsNoChange switches encryption on, rotates the key and switches
// encryption off, provider by provider, while a worker runs.
func testSeedEncryptionIsNoChange(t *testing.T) {
	t.Parallel()
	bothSourcesOf(t, newWorldWithoutRows, func(t *testing.T, w *world) {
		first, second := dbcrypttest.VectorKey(), dbcrypttest.NewKey()
		a := w.administrator(first, second)
		env := w.awsAndOpenAI()
		w.insertProvider("bedrock", "aws", "")
		w.exec(`UPDATE ai_providers SET settings = $1`, awsSettings)
		// Two that the environment does not name.
		w.insertProvider("copilot", "copilot", "https://copilot.invalid/", `icon = '/emojis/plane.png'`)
		w.insertProvider("anthropic", "other", "", `settings = '{"_type":"bedrock","_version":1,"region":"eu-west-1"}'`)
		file := w.file("providers.env", env.File())
		flags := []string{"--env-file=" + file, "--credential-drift=alert"}
		p := w.start(nil, append([]string{"run", "--http-addr=127.0.0.1:0"}, flags...)...).ready()
		before := a.values()
		require.Len(t, before, 3)

		var alerts []string
		drift := func(alert string, change func()) {
			t.Helper()
			change()
			alerts = append(alerts, alert)
			w.expectAlerts(alerts...)
		}
		// Alerts come in the order of the changes: the alert of a later change shows that
		// an earlier one caused none.
		silent := func(stage string) {
			t.Helper()
			require.Equal(t, before, a.values(), stage)
			drift("disabled openai", func() { w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`) })
			drift("resolved openai", func() { w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`) })
			code, body := p.get("/readyz")
			require.Equal(t, http.StatusOK, code, "%s: %s", stage, body)
			require.NotContains(t, body, "aws", stage)
		}
		inSync := func(stage string) {
			t.Helper()
			silent(stage)
			r := w.run(nil, append([]string{"verify"}, flags...)...)
			require.Equal(t, 0, r.Code, "%s: %s%s", stage, r.Stdout, r.Stderr)
		}

		a.register(first)
		p.reload(file, env.WithKeys(first))
		silent("the gateway's key is registered")
		a.rewrite(&first, "aws", "copilot")
		inSync("half of the providers are encrypted")
		a.rewrite(&first, "openai", "other")
		require.Equal(t, []string{first.Digest()}, a.digests())
		inSync("all are encrypted")

		a.register(second)
		p.reload(file, env.WithKeys(second, first))
		a.rewrite(&second, "aws", "other")
		inSync("half of the providers have the new key")
		a.rewrite(&second, "copilot", "openai")
		a.revoke(first)
		inSync("the former key is revoked")
		p.reload(file, env.WithKeys(second))
		require.Equal(t, []string{second.Digest()}, a.digests())
		silent("the former key is forgotten")

		// Encrypted values are still compared.
		drift("changed aws", func() { a.replace("aws", "us-east-1", "eu-west-1") })
		require.Equal(t, []string{`[{"db": "eu-west-1", "env": "us-east-1", "name": "bedrock_region"}]`},
			w.strings(`SELECT fields::text FROM provwatch.drift_alerts ORDER BY seq DESC LIMIT 1`))
		drift("resolved aws", func() { a.replace("aws", "eu-west-1", "us-east-1") })
		drift("changed openai", func() { a.replace("openai", openAIKey, w.secret("sk-rotated-0123456789-abcdef")) })
		drift("resolved openai", func() { a.replace("openai", "sk-rotated-0123456789-abcdef", openAIKey) })
		drift("changed aws", func() { a.replace("aws", awsSecret, w.secret("aws-rotated-0123456789-abcdef")) })
		drift("resolved aws", func() { a.replace("aws", "aws-rotated-0123456789-abcdef", awsSecret) })

		a.rewrite(nil, "aws", "copilot")
		inSync("half of the providers are in plain text")
		a.rewrite(nil, "openai", "other")
		require.Equal(t, []string{"plain"}, a.digests())
		p.reload(file, env)
		silent("all are in plain text")
		a.revoke(second)
		inSync("encryption is off")
		p.stop()
	})
}
