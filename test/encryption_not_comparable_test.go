//go:build e2e

package test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
)

// notComparable is a database with an encrypted Bedrock provider aws that the worker
// cannot compare, and a provider openai that it can.
type notComparable struct {
	*world
	admin *administrator
	// key is the worker's; unknown is another one of the gateway.
	key, unknown dbcrypttest.Key
	env          environ // without keys
	problem      string  // as the worker tells it
}

// aws returns the settings of the provider aws.
func (n *notComparable) aws() storedSecret {
	n.t.Helper()
	stored := n.admin.stored("aws")
	require.Len(n.t, stored, 1)
	return stored[0]
}

// damages are the ways in which the settings of aws can become what cannot be
// compared, each with what undoes it.
var damages = map[string]struct {
	damage  func(*notComparable) (undo func())
	problem string // as the worker tells it, %s for the digest of the unknown key
}{
	"UnknownKey": {func(n *notComparable) func() {
		n.admin.rewrite(&n.unknown, "aws")
		return nil // the worker gets the key
	}, "encrypted with key %s, which is not in " + keysVariable},
	"DamagedCiphertext": {func(n *notComparable) func() {
		before := n.aws()
		n.exec(`UPDATE ai_providers SET settings = overlay(settings PLACING CASE WHEN substr(settings, 30, 1) = 'A' THEN 'B' ELSE 'A' END FROM 30) WHERE name = 'aws'`)
		return func() { n.exec(`UPDATE ai_providers SET settings = $1 WHERE name = 'aws'`, before.Stored) }
	}, "the value is damaged"},
	"NotJSON": {func(n *notComparable) func() {
		before := n.aws()
		n.admin.write(before, "garbage with "+n.secret("sk-inside-0123456789"), &n.key)
		return func() { n.admin.write(before, n.admin.plain(before), &n.key) }
	}, "settings are not a JSON object"},
}

// newNotComparable seeds both providers.
func newNotComparable(t *testing.T, source, kind string) *notComparable {
	t.Helper()
	w := newWorldOf(t, source)
	n := &notComparable{world: w, key: dbcrypttest.NewKey(), unknown: dbcrypttest.NewKey(), env: w.awsAndOpenAI()}
	n.admin = w.administrator(n.key, n.unknown)
	n.problem = strings.ReplaceAll(damages[kind].problem, "%s", n.unknown.Digest())
	n.admin.register(n.unknown)
	n.admin.register(n.key)
	r := w.run(n.env.WithKeys(n.key), "seed")
	require.Equal(t, 0, r.Code, r.Stderr)
	return n
}

// startWith starts a worker whose environment file has the keys.
func (n *notComparable) startWith(env environ, keys ...dbcrypttest.Key) (p *worker, file string) {
	n.t.Helper()
	file = n.file("providers.env", env.WithKeys(keys...).File())
	return n.start(nil, "run", "--on-boot-drift=alert", "--http-addr=127.0.0.1:0", "--env-file="+file).ready(), file
}

// states returns how "worker status" shows the providers, by name.
func (n *notComparable) states() map[string]string {
	n.t.Helper()
	r := n.run(nil, "status", "-o", "json")
	require.Equal(n.t, 0, r.Code, r.Stderr)
	var status struct {
		Providers []struct{ Name, State string }
	}
	require.NoError(n.t, json.Unmarshal([]byte(r.Stdout), &status))
	states := map[string]string{}
	for _, p := range status.Providers {
		states[p.Name] = p.State
	}
	return states
}

func TestNotComparable(t *testing.T) {
	t.Parallel()
	t.Run("EachDamage", testNotComparableEachDamage)
	t.Run("KeepsRecordedDrift", testNotComparableKeepsRecordedDrift)
	t.Run("CountedByLeaderAlone", testNotComparableCountedByLeaderAlone)
	t.Run("Disabled", testNotComparableDisabled)
	t.Run("EncryptedUnnoticed", testNotComparableEncryptedUnnoticed)
	t.Run("FormerKeysetIsRefused", testNotComparableFormerKeysetIsRefused)
}

func testNotComparableEachDamage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, source string }{
		{"UnknownKey", "notify"}, {"UnknownKey", "wal"}, {"DamagedCiphertext", "wal"}, {"NotJSON", "notify"},
	} {
		t.Run(c.kind+"/"+c.source, func(t *testing.T) {
			t.Parallel()
			n := newNotComparable(t, c.source, c.kind)
			undo := damages[c.kind].damage(n)
			n.isRefused(t)

			// With alert it runs, and does with the others what it would.
			extra := n.env.With("CODER_AIBRIDGE_PROVIDER_1_TYPE", "openai").With("CODER_AIBRIDGE_PROVIDER_1_NAME", "extra").
				With("CODER_AIBRIDGE_PROVIDER_1_BASE_URL", "https://extra.invalid/v1/").With("CODER_AIBRIDGE_PROVIDER_1_KEY", n.secret("sk-extra-0123456789-abcdef"))
			p, file := n.startWith(extra, n.key)
			require.Equal(t, []string{"aws", "extra", "openai"}, n.strings(`SELECT name FROM ai_providers WHERE name NOT LIKE 'gw-%' ORDER BY name`))
			n.isShown(p)
			row := n.aws()

			// It stays so, whatever happens to it and to others.
			n.exec(`UPDATE ai_providers SET display_name = 'Claude' WHERE name = 'aws'`)
			n.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere.invalid/' WHERE name = 'aws'`)
			n.exec(`UPDATE ai_providers SET base_url = '' WHERE name = 'aws'`)
			n.exec(`NOTIFY ai_providers_changed`)
			n.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			n.expectAlerts("disabled openai")
			n.isShown(p)
			require.Equal(t, row, n.aws())

			if undo != nil {
				undo()
			} else {
				p.reload(file, extra.WithKeys(n.key, n.unknown))
			}
			eventually(t, func() bool { return n.states()["aws"] == "in_sync" }, "aws is in sync: %s", lazily(p.lines))
			p.comparesAll()
			n.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
			n.expectAlerts("disabled openai", "resolved openai")
			// And it is watched again.
			n.admin.replace("aws", "us-east-1", "eu-west-1")
			n.expectAlerts("disabled openai", "resolved openai", "changed aws")
			p.stop()
		})
	}
}

// isRefused checks the commands that need the comparison. Nothing is written.
func (n *notComparable) isRefused(t *testing.T) {
	t.Helper()
	env := n.env.WithKeys(n.key)
	before := n.dump()
	for _, command := range []string{"run", "seed", "resolve aws --take env", "resolve aws --take env --with-keys", "resolve aws --take db"} {
		r := n.run(env, strings.Fields(command)...)
		require.Equal(t, 1, r.Code, "%s: %s", command, r.Stderr)
		require.Contains(t, r.Stderr, `"aws"`, command)
		require.Contains(t, r.Stderr, n.problem, command)
	}
	r := n.run(env, "seed", "--dry-run")
	require.Equal(t, 1, r.Code, r.Stdout)
	require.Contains(t, r.Squeezed().Stdout, "! aws not comparable")
	r = n.run(env, "verify")
	require.Equal(t, 1, r.Code, "%s%s", r.Stdout, r.Stderr)
	require.Contains(t, r.Stdout, n.problem)
	require.Regexp(t, `aws +not comparable`, r.Stdout)
	require.Regexp(t, `openai +in sync`, r.Stdout)
	r = n.run(env.With("CODER_AIBRIDGE_OPENAI_BASE_URL", "https://elsewhere.invalid/"), "verify")
	require.Equal(t, 1, r.Code, "beside a drift: %s%s", r.Stdout, r.Stderr)
	require.Regexp(t, `openai +changed`, r.Stdout)
	for _, args := range [][]string{{"run"}, {"seed"}, {"seed", "--dry-run"}} {
		r = n.run(env.With("CODER_AIBRIDGE_OPENAI_BASE_URL", "https://elsewhere.invalid/"), args...)
		require.Equal(t, 1, r.Code, "%s, beside a drift: %s%s", args, r.Stdout, r.Stderr)
	}
	r = n.run(env, "verify", "-o", "json")
	require.Equal(t, 1, r.Code, r.Stderr)
	var verification struct {
		Drifts    int
		Providers []struct{ Provider, State string }
	}
	require.NoError(t, json.Unmarshal([]byte(r.Stdout), &verification))
	require.Zero(t, verification.Drifts)
	require.Equal(t, "aws not_comparable", verification.Providers[0].Provider+" "+verification.Providers[0].State)
	require.Equal(t, before, n.dump())
}

// isShown checks that the worker shows aws wherever it shows providers, and has
// logged it once.
func (n *notComparable) isShown(p *worker) {
	n.t.Helper()
	p.becomes(http.StatusOK, "aws", "cannot be compared", n.problem)
	eventually(n.t, func() bool { return n.states()["aws"] == "not_comparable" }, "worker status shows aws")
	require.Equal(n.t, 1, p.logged("level=WARN", "cannot be compared", "provider=aws"), strings.Join(p.lines(), "\n"))
	require.Equal(n.t, 1.0, p.metric("provwatch_not_comparable_providers"))
	r := n.run(nil, "status")
	require.Regexp(n.t, `aws +not comparable`, r.Stdout)
	_, page := p.get("/")
	require.Contains(n.t, page, "cannot be compared")
	require.Zero(n.t, n.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE provider = 'aws'`))
}

// comparesAll waits until the worker lists no provider that cannot be compared.
func (p *worker) comparesAll() {
	p.w.t.Helper()
	eventually(p.w.t, func() bool {
		code, body := p.get("/readyz")
		return code == http.StatusOK && body == "ok\n" && p.metric("provwatch_not_comparable_providers") == 0
	}, "the worker compares all:\n%s", lazily(p.lines))
}

// testNotComparableKeepsRecordedDrift encrypts a provider that drifts with a key
// that the worker does not have.
func testNotComparableKeepsRecordedDrift(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			n := newNotComparable(t, source, "UnknownKey")
			p, _ := n.startWith(n.env, n.key)
			n.admin.replace("aws", "us-east-1", "eu-west-1")
			alerts := []string{"changed aws"}
			n.expectAlerts(alerts...)
			state := func() []string {
				return n.strings(`SELECT to_jsonb(s)::text FROM provwatch.drift_state s WHERE provider = 'aws'`)
			}
			before := state()
			require.Len(t, before, 1)

			n.admin.rewrite(&n.unknown, "aws")
			p.becomes(http.StatusOK, "aws", n.problem)
			n.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			alerts = append(alerts, "disabled openai")
			n.expectAlerts(alerts...)
			require.Equal(t, before, state())

			// Over a restart as well.
			p.stop()
			p, file := n.startWith(n.env, n.key)
			p.becomes(http.StatusOK, "aws", n.problem)
			n.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
			alerts = append(alerts, "resolved openai")
			n.expectAlerts(alerts...)
			require.Equal(t, before, state())

			// The same drift is no news once it can be compared again.
			p.reload(file, n.env.WithKeys(n.key, n.unknown))
			eventually(t, func() bool { return n.states()["aws"] == "drifted" }, "aws drifts as before")
			n.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			alerts = append(alerts, "disabled openai")
			n.expectAlerts(alerts...)
			n.admin.replace("aws", "eu-west-1", "us-east-1")
			n.expectAlerts(append(alerts, "resolved aws")...)
			p.stop()
		})
	}
}

// testNotComparableCountedByLeaderAlone ends the session of the worker that leads,
// while that is frozen.
func testNotComparableCountedByLeaderAlone(t *testing.T) {
	t.Parallel()
	n := newNotComparable(t, "notify", "UnknownKey")
	n.admin.rewrite(&n.unknown, "aws")
	first, _ := n.startWith(n.env, n.key)
	first.becomes(http.StatusOK, "aws", n.problem)
	second, _ := n.startWith(n.env, n.key)
	require.Equal(t, 1.0, first.metric("provwatch_not_comparable_providers"))
	require.Zero(t, second.metric("provwatch_not_comparable_providers"))
	first.signal(syscall.SIGSTOP) // or it could lead again at once
	n.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1886874724
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	second.waitFor("msg=leading")
	first.signal(syscall.SIGCONT)
	second.becomes(http.StatusOK, "aws", n.problem)
	require.Equal(t, 1.0, second.metric("provwatch_not_comparable_providers"))
	eventually(t, func() bool { return first.metric("provwatch_not_comparable_providers") == 0 }, "the other one counts none")
	first.becomes(http.StatusOK, "ok\n")
	first.stop()
	second.stop()
}

// testNotComparableDisabled takes the key of a disabled provider away and gives it
// back, which is no change of it.
func testNotComparableDisabled(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			n := newNotComparable(t, source, "UnknownKey")
			p, file := n.startWith(n.env, n.key)
			n.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'aws'`)
			n.expectAlerts("disabled aws")
			p.reload(file, n.env)
			p.becomes(http.StatusOK, "aws", "cannot be compared: encrypted with key "+n.key.Digest())
			p.reload(file, n.env.WithKeys(n.key))
			p.comparesAll()
			n.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'aws'`)
			n.expectAlerts("disabled aws", "resolved aws")
			require.Zero(t, p.logged("replication slot given up"), lazily(p.lines))
			p.stop()
		})
	}
}

// testNotComparableEncryptedUnnoticed encrypts everything while a worker runs
// that has no keys, as the gateway's administrator does who forgot it.
func testNotComparableEncryptedUnnoticed(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		key := dbcrypttest.NewKey()
		a := w.administrator(key)
		env := w.awsAndOpenAI()
		file := w.file("providers.env", env.File())
		p := w.start(nil, "run", "--http-addr=127.0.0.1:0", "--env-file="+file).ready()
		a.register(key)
		a.rewrite(&key, "aws", "openai")
		p.becomes(http.StatusOK, "aws", "cannot be compared: encrypted with key "+key.Digest()+", which is not in "+keysVariable)
		r := w.run(env, "verify")
		require.Equal(t, 1, r.Code, "%s%s", r.Stdout, r.Stderr)
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")

		p.reload(file, env.WithKeys(key))
		p.comparesAll()
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("disabled openai", "resolved openai")
		p.stop()
		r = w.run(env.WithKeys(key), "verify")
		require.Equal(t, 0, r.Code, "%s%s", r.Stdout, r.Stderr)
	})
}

// testNotComparableFormerKeysetIsRefused starts on tables that a former version has encrypted,
// which knew no dbcrypt_keys.
func testNotComparableFormerKeysetIsRefused(t *testing.T) {
	t.Parallel()
	// Of key 1234567: a byte 1, the id, nonce, ciphertext and tag.
	former := base64.StdEncoding.EncodeToString(append([]byte{1, 0, 18, 214, 135}, make([]byte, 40)...))
	for name, set := range map[string]string{
		"Settings": `UPDATE ai_providers SET settings = '` + former + `', settings_key_id = '1234567' WHERE name = 'aws'`,
		"APIKey":   `UPDATE ai_provider_keys SET api_key = '` + former + `', api_key_key_id = '1234567'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEmptyWorld(t)
			w.minimalTables(`'openai', 'anthropic'`, "")
			env := w.awsAndOpenAI()
			r := w.run(env, "seed")
			require.Equal(t, 0, r.Code, r.Stderr)
			w.exec(set)
			before := w.dump()
			for _, args := range [][]string{{"run"}, {"run", "--on-boot-drift=alert"}, {"seed"}} {
				r := w.run(env, args...)
				require.Equal(t, 1, r.Code, "%s: %s", args, r.Stderr)
				require.Contains(t, r.Stderr, "encrypted with key 1234567 of the --keyset of a former version: decrypt the stored secrets with that version first", args)
			}
			require.Equal(t, before, w.dump())
		})
	}
}
