//go:build e2e

package test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

// The vector of docs/specification.md, section 3, of dbcrypttest.VectorKey.
const (
	vectorPlain  = "made-up-key-0123456789"
	vectorStored = "yMnKy8zNzs/Q0dLTfBkFvqu5iw0fWWaTLjfZJ9Sy2p88UiFQWUCclOkOEumqPujqX40="
	vectorTest   = "yMnKy8zNzs/Q0dLTchcFvvQuIwVAg5PBNJjksBnDuCJT"
)

func TestSeedEncryption(t *testing.T) {
	t.Parallel()
	t.Run("Encrypts", testSeedEncryptionEncrypts)
	t.Run("ReadsTheVector", testSeedEncryptionReadsTheVector)
	t.Run("NoActiveKeyIsRefused", testSeedEncryptionNoActiveKeyIsRefused)
	t.Run("DryRunForetellsRefusal", testSeedEncryptionDryRunForetellsRefusal)
	t.Run("NoKeyConfigured", testSeedEncryptionNoKeyConfigured)
	t.Run("OwnTablesRegisterAKey", testSeedEncryptionOwnTablesRegisterAKey)
	t.Run("OwnTablesOfAnotherRole", testSeedEncryptionOwnTablesOfAnotherRole)
	t.Run("NothingInTheWAL", testSeedEncryptionNothingInTheWAL)
	t.Run("IsNoChange", testSeedEncryptionIsNoChange)
}

// testSeedEncryptionEncrypts seeds into the gateway's tables, with keys in several states.
func testSeedEncryptionEncrypts(t *testing.T) {
	t.Parallel()
	first, second, other := dbcrypttest.NewKey(), dbcrypttest.NewKey(), dbcrypttest.NewKey()
	for name, c := range map[string]struct {
		active, revoked []dbcrypttest.Key
		configured      []dbcrypttest.Key
		with            *dbcrypttest.Key // nil: in plain text
	}{
		"FirstKeyIsActive":      {active: []dbcrypttest.Key{second, first}, configured: []dbcrypttest.Key{first, second}, with: &first},
		"OnlySecondKeyIsActive": {active: []dbcrypttest.Key{second}, configured: []dbcrypttest.Key{first, second}, with: &second},
		"FirstKeyIsRevoked":     {active: []dbcrypttest.Key{second}, revoked: []dbcrypttest.Key{first}, configured: []dbcrypttest.Key{first, second}, with: &second},
		"AnotherKeyIsActiveToo": {active: []dbcrypttest.Key{other, first}, configured: []dbcrypttest.Key{first}, with: &first},
		"NoKey":                 {},
		"NoKeyAndNoActiveOne":   {revoked: []dbcrypttest.Key{first}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithoutRows(t, "")
			a := w.administrator(first, second, other)
			for _, key := range append(c.revoked, c.active...) {
				a.register(key)
			}
			for _, key := range c.revoked {
				a.revoke(key)
			}
			env := w.awsAndOpenAI().WithKeys(c.configured...)
			r := w.run(env, "seed", "--dry-run")
			require.Equal(t, 0, r.Code, r.Stderr)
			w.start(env, "run").ready().stop()
			require.Empty(t, w.alerts())
			want := "plain"
			if c.with != nil {
				want = c.with.Digest()
			}
			require.Equal(t, []string{want}, a.digests())
			a.requireReadable()
			plain := map[string]string{}
			for _, s := range a.stored() {
				plain[s.Provider] = a.plain(s)
			}
			require.Equal(t, openAIKey, plain["openai"])
			require.Contains(t, plain["aws"], `"access_key_secret":"`+awsSecret+`"`)

			// A second seed finds what the first has stored.
			before := w.dumpBesideSeed()
			for _, args := range [][]string{{"seed"}, {"verify", "--credential-drift=alert"}, {"seed", "--compat=upstream-credentials"}} {
				r := w.run(env, args...)
				require.Equal(t, 0, r.Code, "%s: %s%s", args, r.Stdout, r.Stderr)
			}
			require.Equal(t, before, w.dumpBesideSeed())
		})
	}
}

// testSeedEncryptionReadsTheVector compares rows that hold the specification's own vector.
func testSeedEncryptionReadsTheVector(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	key := dbcrypttest.VectorKey()
	w.secret(key.Text())
	w.exec(`INSERT INTO dbcrypt_keys (number, active_key_digest, test) VALUES (1, '6d28cf8', $1)`, vectorTest)
	w.insertProvider("openai", "openai", "https://api.openai.com/v1/")
	w.exec(`INSERT INTO ai_provider_keys (id, provider_id, api_key, api_key_key_id) SELECT gen_random_uuid(), id, $1, '6d28cf8' FROM ai_providers`, vectorStored)
	env := environ{"CODER_AIBRIDGE_OPENAI_KEY": w.secret(vectorPlain)}.WithKeys(key)
	r := w.run(env, "verify", "--credential-drift=alert")
	require.Equal(t, 0, r.Code, "%s%s", r.Stdout, r.Stderr)
	r = w.run(env, "seed", "--compat=upstream-credentials")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Equal(t, []string{vectorStored}, w.strings(`SELECT api_key FROM ai_provider_keys`))
}

// testSeedEncryptionNoActiveKeyIsRefused starts with keys of which none is active.
func testSeedEncryptionNoActiveKeyIsRefused(t *testing.T) {
	t.Parallel()
	key, other := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	for name, c := range map[string]struct {
		prepare func(*administrator)
		reason  string
	}{
		"NoKeyIsRegistered": {func(*administrator) {}, "is active in dbcrypt_keys, which has no key"},
		"Revoked":           {func(a *administrator) { a.register(key); a.revoke(key) }, key.Digest() + " (revoked)"},
		"AnotherIsActive":   {func(a *administrator) { a.register(other) }, other.Digest() + " (active)"},
		"ItsTestWordDiffers": {func(a *administrator) {
			a.w.exec(`INSERT INTO dbcrypt_keys (number, active_key_digest, test) VALUES (1, $1, $2)`, key.Digest(), other.Encrypt("coder"))
		}, "its column test does not decrypt"},
		"NoTable": {func(a *administrator) { a.w.exec(`DROP TABLE dbcrypt_keys CASCADE`) }, "have no table dbcrypt_keys to be registered in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, "")
			c.prepare(w.administrator(key, other))
			env := w.awsAndOpenAI().WithKeys(key)
			before := w.dump()
			for _, args := range [][]string{{"run"}, {"run", "--on-boot-drift=alert"}, {"seed"}, {"resolve", "openai", "--take", "env", "--with-keys"}} {
				r := w.run(env, args...)
				require.Equal(t, 1, r.Code, "%s: %s", args, r.Stderr)
				require.Contains(t, r.Stderr, "secrets cannot be encrypted: ")
				require.Contains(t, r.Stderr, key.Digest())
				require.Contains(t, r.Stderr, c.reason)
				require.Contains(t, r.Stderr, "gateway", "the remedy")
			}
			r := w.run(env, "seed", "--dry-run")
			require.Equal(t, 1, r.Code, r.Stderr)
			require.Contains(t, r.Stdout, "Plan: 2 to insert")
			require.Contains(t, r.Stderr, "a seed would fail: secrets cannot be encrypted: ")
			require.Contains(t, r.Stderr, c.reason)
			require.Equal(t, before, w.dump())
		})
	}
}

// testSeedEncryptionDryRunForetellsRefusal plans a seed of a database that provwatch has not migrated.
func testSeedEncryptionDryRunForetellsRefusal(t *testing.T) {
	t.Parallel()
	w := newOwnerWorld(t)
	key := dbcrypttest.NewKey()
	a := w.administrator(key)
	dryRun := func(code int, reason string, keys ...dbcrypttest.Key) {
		t.Helper()
		r := w.run(w.awsAndOpenAI().WithKeys(keys...), "seed", "--dry-run")
		require.Equal(t, code, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, reason)
		require.Contains(t, r.Stdout, "Plan: 2 to insert")
	}
	dryRun(0, "")
	dryRun(1, "is active in dbcrypt_keys, which has no key", key)
	a.register(key)
	dryRun(1, "a seed would fail: the settings of provider \"aws\" cannot be stored: it is a secret")
	dryRun(0, "", key)
	w.exec(`DROP TABLE dbcrypt_keys CASCADE`)
	dryRun(0, "")
	dryRun(1, "have no table dbcrypt_keys to be registered in", key)

	// Tables that the seed makes have a place for its key.
	w = newEmptyWorld(t)
	dryRun(0, "", key)
	require.Equal(t, 0, w.run(w.awsAndOpenAI().WithKeys(key), "seed").Code)
	w.exec(`DELETE FROM ai_providers; DELETE FROM dbcrypt_keys`)
	dryRun(0, "", key)
}

// testSeedEncryptionNoKeyConfigured seeds into a database with an active key.
func testSeedEncryptionNoKeyConfigured(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	key := dbcrypttest.NewKey()
	a := w.administrator(key)
	a.register(key)
	before := w.dump()
	for _, args := range [][]string{{"run"}, {"seed"}} {
		r := w.run(w.awsAndOpenAI(), args...)
		require.Equal(t, 1, r.Code, "%s: %s", args, r.Stderr)
		require.Regexp(t, `"(aws|openai)"`, r.Stderr)
		require.Contains(t, r.Stderr, "it is a secret, and the gateway encrypts secrets (key "+key.Digest()+" is active in dbcrypt_keys): set "+keysVariable+" (or "+keysFileVariable+") to the gateway's keys")
	}
	r := w.run(w.awsAndOpenAI(), "seed", "--dry-run")
	require.Equal(t, 1, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, "Plan: 2 to insert")
	require.Contains(t, r.Stderr, "a seed would fail: ")
	require.Contains(t, r.Stderr, "it is a secret, and the gateway encrypts secrets (key "+key.Digest())
	require.Equal(t, before, w.dump())

	// Without secrets there is nothing to encrypt.
	env := environ{
		"CODER_AIBRIDGE_PROVIDER_0_TYPE": "anthropic", "CODER_AIBRIDGE_PROVIDER_0_NAME": "aws", "CODER_AIBRIDGE_PROVIDER_0_BEDROCK_REGION": "us-east-1",
		"CODER_AIBRIDGE_PROVIDER_1_TYPE": "openai", "CODER_AIBRIDGE_PROVIDER_1_NAME": "north", "CODER_AIBRIDGE_PROVIDER_1_BASE_URL": "https://north.invalid/v1/",
	}
	r = w.run(env, "seed", "--dry-run")
	require.Equal(t, 0, r.Code, r.Stderr)
	p := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
	require.Equal(t, []string{"aws", "north"}, w.strings(`SELECT name FROM ai_providers ORDER BY name`))
	require.Equal(t, []string{"plain"}, a.digests())
	a.requireReadable()
	code, body := p.get("/readyz")
	require.Equal(t, http.StatusOK, code, body)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'north'`)
	w.expectAlerts("disabled north")
	p.stop()
}

// testSeedEncryptionOwnTablesRegisterAKey lets provwatch make the provider tables, and with them
// dbcrypt_keys.
func testSeedEncryptionOwnTablesRegisterAKey(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	first, second := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	a := w.administrator(first, second)
	registered := func() (list []string) {
		t.Helper()
		for _, row := range w.strings(`SELECT concat_ws(' ', number, active_key_digest, test) FROM dbcrypt_keys ORDER BY number`) {
			fields := strings.Fields(row)
			require.Len(t, fields, 3)
			word, err := a.keys[fields[1]].Decrypt(fields[2])
			require.NoError(t, err)
			list = append(list, fields[0]+" "+fields[1]+" "+word)
		}
		return list
	}
	env := w.awsAndOpenAI()
	w.start(env.WithKeys(first), "run").ready().stop()
	require.Equal(t, []string{"1 " + first.Digest() + " coder"}, registered())
	require.Equal(t, []string{first.Digest()}, a.digests())
	a.requireReadable()
	require.Equal(t, 0, w.run(env.WithKeys(second, first), "migrate").Code)
	require.Equal(t, []string{"1 " + first.Digest() + " coder", "2 " + second.Digest() + " coder"}, registered())
	require.Equal(t, 0, w.run(env.WithKeys(second, first), "migrate").Code)
	require.Len(t, registered(), 2)
	w.exec(`DELETE FROM ai_providers WHERE name = 'openai'`)
	r := w.run(env.WithKeys(second, first), "seed")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.ElementsMatch(t, []string{first.Digest(), second.Digest()}, a.digests(), "what is there stays as it is")
}

// testSeedEncryptionOwnTablesOfAnotherRole names the owner's command.
func testSeedEncryptionOwnTablesOfAnotherRole(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	w.prepare()
	key := dbcrypttest.NewKey()
	a := w.administrator(key)
	env := w.awsAndOpenAI().WithKeys(key)
	r := w.run(env, "run")
	require.Equal(t, 1, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, `register the first one with "worker migrate" as the owner of the provider tables`)
	require.Zero(t, w.count(`SELECT count(*) FROM ai_providers`))
	r = w.run(env, "migrate")
	require.Equal(t, 0, r.Code, r.Stderr)
	r = w.run(env, "seed")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Equal(t, []string{key.Digest()}, a.digests())
}

// testSeedEncryptionNothingInTheWAL searches for plain text wherever the server
// keeps what was written.
func testSeedEncryptionNothingInTheWAL(t *testing.T) {
	t.Parallel()
	for name, encrypted := range map[string]bool{"Encrypted": true, "PlainTextIsFound": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, "wal")
			unique := strings.ReplaceAll(uuid.NewString(), "-", "")
			env := w.awsAndOpenAI().
				With("CODER_AIBRIDGE_OPENAI_KEY", w.secret("sk-"+unique)).
				With("CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET", w.secret("aws-"+unique))
			if encrypted {
				key := dbcrypttest.NewKey()
				w.administrator(key).register(key)
				env = env.WithKeys(key)
			}
			w.exec(`CREATE PUBLICATION everything FOR TABLE ai_providers, ai_provider_keys`)
			slot := "peek_" + unique
			w.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, slot)

			p := w.start(env, "run").ready()
			w.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere.invalid/' WHERE name = 'aws'`)
			w.expectAlerts("changed aws")
			r := w.run(env, "resolve", "aws", "--take", "env", "--with-keys")
			require.Equal(t, 0, r.Code, r.Stderr)
			w.expectAlerts("changed aws", "resolved aws")
			p.stop()

			w.exec(`SELECT pg_switch_wal()`)
			holding := func(from string) int {
				return w.count(`SELECT count(*) FROM (`+from+`) AS held(data) WHERE position(convert_to($1, 'UTF8') IN data) > 0`, unique)
			}
			found := map[string]int{
				"stream": holding(`SELECT data FROM pg_logical_slot_peek_binary_changes('` + slot + `', NULL, NULL, 'proto_version', '1', 'publication_names', 'everything')`),
				"WAL":    holding(`SELECT pg_read_binary_file('pg_wal/' || name, 0, 1 << 26, true) FROM pg_ls_waldir()`),
				"tables": holding(`SELECT convert_to(to_jsonb(p)::text, 'UTF8') FROM ai_providers p UNION ALL SELECT convert_to(to_jsonb(k)::text, 'UTF8') FROM ai_provider_keys k`),
			}
			w.exec(`SELECT pg_drop_replication_slot($1)`, slot)
			for where, n := range found {
				require.Equal(t, encrypted, n == 0, "%s: %d", where, n)
			}
			// That no table of provwatch has a secret is searched for at the end of each test.
			require.Equal(t, []string{"us-east-1"}, w.strings(`SELECT bedrock_region FROM provwatch.wal_mirror WHERE name = 'aws'`))
		})
	}
}
