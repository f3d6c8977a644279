package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/atrest"
	"provwatch/internal/atrest/atresttest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
)

// newKeyset makes a keyset file with one key.
func newKeyset(t *testing.T) (path, keyID string) {
	t.Helper()
	path, keys := atresttest.NewKeyset(t)
	return path, keys.Primary()
}

const awsSecret = "aws-secret-0123456789-abcdefghij"

// awsAndOpenAI names a Bedrock provider aws and a provider openai with one key.
func (w *world) awsAndOpenAI() environ {
	return environ{
		"CODER_AIBRIDGE_OPENAI_KEY":                           w.secret(openAIKey),
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":                      "anthropic",
		"CODER_AIBRIDGE_PROVIDER_0_NAME":                      "aws",
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_REGION":            "us-east-1",
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY":        w.secret("AKIA0123456789ABCDEF"),
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET": w.secret(awsSecret),
	}
}

// keyIDs returns the ids of the keys that everything is stored with, each once.
func (w *world) keyIDs() []string {
	w.t.Helper()
	return w.strings(`SELECT coalesce(settings_key_id, 'plain') FROM ai_providers WHERE settings IS NOT NULL
		UNION SELECT coalesce(api_key_key_id, 'plain') FROM ai_provider_keys ORDER BY 1`)
}

func TestWithAKeysetNoPlainTextIsInTheDatabaseOrItsWAL(t *testing.T) {
	t.Parallel()
	for name, encrypted := range map[string]bool{"with a keyset": true, "without, so that the search is known to find": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newBareWorld(t, "")
			w.source = "wal"
			w.migrate()
			unique := strings.ReplaceAll(uuid.NewString(), "-", "")
			env := w.awsAndOpenAI().
				with("CODER_AIBRIDGE_OPENAI_KEY", w.secret("sk-"+unique)).
				with("CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET", w.secret("aws-"+unique))
			if encrypted {
				env["PROVWATCH_KEYSET"], _ = newKeyset(t)
			}
			w.exec(`CREATE PUBLICATION everything FOR TABLE ai_providers, ai_provider_keys`)
			slot := "peek_" + unique
			w.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, slot)

			p := w.start(env, "run").ready()
			w.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere/' WHERE name = 'aws'`)
			w.expectAlerts("changed aws")
			require.Zero(t, w.run(env, "resolve", "aws", "--take", "env", "--with-keys").code)
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
			// The region and nothing else is mirrored. That no table of provwatch has a
			// secret is searched for at the end of each test.
			require.Equal(t, []string{"us-east-1"}, w.strings(`SELECT bedrock_region FROM provwatch.wal_mirror WHERE name = 'aws' AND undecodable = ''`))
		})
	}
}

func TestAKeysetThatCannotBeUsedIsExitCode3BeforeAnythingConnects(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t, "")
	path, _ := newKeyset(t)
	require.NoError(t, os.Chmod(path, 0o640))
	none := filepath.Join(t.TempDir(), "none.json")
	env := w.twoProviders().with("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
	for _, command := range [][]string{
		{"run"}, {"seed"}, {"seed", "--dry-run"}, {"verify"}, {"resolve", "openai", "--take", "env"},
		{"keys", "list"}, {"keys", "rotate"}, {"keys", "decrypt"}, {"keys", "remove", "7"},
	} {
		r := w.run(env, append(command, "--keyset", path)...)
		require.Equal(t, 3, r.code, "%s: %s", command, r.stderr)
		require.Equal(t, "worker: keyset "+path+": others than its owner can access it (mode 0640), and whoever reads it "+
			"can decrypt the stored secrets; run: chmod 600 "+path+"\n", r.stderr)
		r = w.run(env, append(command, "--keyset", none)...)
		require.Equal(t, 3, r.code, "%s: %s", command, r.stderr)
		require.Contains(t, r.stderr, "worker keys add")
	}
	for _, command := range [][]string{{"keys", "add"}, {"keys", "list"}, {"keys", "promote", "7"}, {"keys", "rotate"}, {"keys", "promote"}, {"keys", "no"}} {
		require.Equal(t, 3, w.run(env, command...).code, command)
	}
}

func TestTheKeysCommandsTakeADatabaseToEncryptionToAnotherKeyAndBack(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t, "")
	env := w.awsAndOpenAI()
	require.Zero(t, w.run(env, "seed").code)
	path := filepath.Join(t.TempDir(), "keyset.json")
	keys := func(args ...string) result {
		t.Helper()
		return w.run(env, append([]string{"keys", "--keyset", path, "--log-level", "warn"}, args...)...)
	}
	type listed struct {
		Keys []struct {
			ID, Status string
			Primary    bool
			Settings   *int64
			APIKeys    *int64 `json:"api_keys"`
		}
	}
	list := func() (lines []string) {
		t.Helper()
		r := keys("list", "-o", "json")
		require.Zero(t, r.code, r.stderr)
		var l listed
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &l))
		for _, k := range l.Keys {
			lines = append(lines, fmt.Sprintf("%s %s %t %d %d", k.ID, k.Status, k.Primary, *k.Settings, *k.APIKeys))
		}
		return lines
	}

	r := keys("add", "-o", "json")
	require.Zero(t, r.code, r.stderr)
	var added struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &added))
	first := added.ID
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	require.Equal(t, []string{first + " enabled true 0 0", " plaintext false 1 1"}, list())

	r = keys("rotate")
	require.Equal(t, result{0, "Settings of 1 provider and 1 API key written, encrypted with key " + first + " now.\n" +
		"Audit entries are staged. No worker runs; the next one delivers them.\n", ""}, r)
	require.Equal(t, []string{first + " enabled true 1 1"}, list())
	require.Equal(t, []string{first}, w.keyIDs())
	require.Equal(t, 2, w.run(env.with("CODER_AIBRIDGE_OPENAI_BASE_URL", "https://other/"), "verify", "--keyset", path, "--credential-drift", "alert").code)
	require.Zero(t, w.run(env, "verify", "--keyset", path, "--credential-drift", "alert").code)
	require.Equal(t, 2, w.run(env, "verify").code, "without the keyset")

	require.Zero(t, keys("add").code)
	second := strings.Fields(list()[1])[0]
	require.Equal(t, []string{first + " enabled true 1 1", second + " enabled false 0 0"}, list())
	r = keys("promote", second)
	require.Equal(t, 0, r.code)
	require.Contains(t, r.stdout, "Key "+second+": promoted.\n")
	r = keys("remove", first)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "key "+first+" is in use: the settings of 1 provider and 1 API key are encrypted with it")
	require.Zero(t, keys("rotate").code)
	require.Zero(t, keys("remove", first).code)
	require.Equal(t, 1, keys("remove", second).code, "it is in use")
	require.Equal(t, []string{second + " enabled true 1 1"}, list())
	require.Zero(t, w.run(env, "verify", "--keyset", path, "--credential-drift", "alert").code)

	w.exec(`UPDATE ai_provider_keys SET api_key_key_id = '7'`)
	r = keys("rotate")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stdout, `encrypted with key "7" (api_key_key_id)`)
	require.Equal(t, []string{second + " enabled true 1 0", "7 missing false 0 1"}, list())
	r = keys("list")
	require.Contains(t, r.stdout, "not in the keyset")
	w.exec(`UPDATE ai_provider_keys SET api_key_key_id = $1`, second)

	require.Equal(t, result{0, "Settings of 1 provider and 1 API key written, in plain text now.\n" +
		"Audit entries are staged. No worker runs; the next one delivers them.\n", ""}, keys("decrypt"))
	require.Equal(t, []string{"plain"}, w.keyIDs())
	require.Zero(t, w.run(env, "verify", "--credential-drift", "alert").code)
	r = keys("remove", second)
	require.Equal(t, 3, r.code)
	require.Contains(t, r.stderr, "its primary key cannot be removed")
	require.Zero(t, w.run(env, "seed").code, "which delivers")
	require.Equal(t, []string{
		"aws provider.reencrypt " + first, "openai provider.reencrypt " + first,
		"aws provider.reencrypt " + second, "openai provider.reencrypt " + second,
		"aws provider.decrypt", "openai provider.decrypt",
	}, w.strings(`SELECT concat_ws(' ', provider, action, details->>'encryption_key_id') FROM provwatch.audit_log
		WHERE action LIKE 'provider.%crypt' AND actor LIKE 'operator:%' ORDER BY min(seq) OVER (PARTITION BY action, details), provider`))
}

func TestRotatingWhileAllAreWritingRaisesNoAlertAndLosesNothing(t *testing.T) {
	t.Parallel()
	bothSourcesOf(t, newBareWorld, func(t *testing.T, w *world) {
		path, first := newKeyset(t)
		env := w.awsAndOpenAI().with("PROVWATCH_KEYSET", path)
		p := w.start(env, "run", "--credential-drift", "alert").ready()
		// Providers that the environment does not name, in plain text, for the
		// gateway to write to.
		w.exec(`INSERT INTO ai_providers (id, type, name, base_url, settings)
			SELECT gen_random_uuid(), 'anthropic', 'other-' || n, '', '{"_type":"bedrock","_version":1,"region":"us-east-1"}' FROM generate_series(1, 500) AS n`)
		w.exec(`INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'sk-' || name FROM ai_providers WHERE name LIKE 'other-%'`)

		second, err := atrest.Add(path)
		require.NoError(t, err)
		p.signal(syscall.SIGHUP)
		p.waitFor("environment reloaded")
		require.NoError(t, atrest.Promote(path, second))
		gateway := w.startGateway(atresttest.Load(t, path))
		r := w.run(env, "keys", "rotate")
		require.Zero(t, r.code, r.stderr)
		written := gateway.stop()

		require.Equal(t, []string{second}, w.keyIDs(), "none is left with %s", first)
		for row, plain := range written {
			require.Equal(t, plain, gateway.read(row))
		}
		require.Greater(t, len(written), 3)
		reencrypted := w.delivered(`SELECT DISTINCT provider_id::text FROM provwatch.audit_log WHERE action = 'provider.reencrypt'`)
		require.GreaterOrEqual(t, len(reencrypted), 452,
			"all but what the gateway has written first")

		// Whatever the rotation could have raised comes before this.
		w.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere/' WHERE name = 'openai'`)
		w.expectAlerts("changed openai")
		p.signal(syscall.SIGHUP)
		eventually(t, func() bool { return p.logged("environment reloaded") == 2 }, "the environment is read again")
		w.exec(`UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/' WHERE name = 'openai'`)
		w.expectAlerts("changed openai", "resolved openai")
		require.Zero(t, w.run(env, "verify", "--credential-drift", "alert").code)
		p.stop()
	})
}

// gateway writes to every tenth of the providers called other-… until it is
// stopped: keys and settings encrypted, and base URLs.
type gateway struct {
	w      *world
	keys   *atrest.Keyset
	cancel context.CancelFunc
	done   chan error

	written map[gatewayRow]string // what it has written last
}

// gatewayRow is a column of a row.
type gatewayRow struct {
	column string
	id     uuid.UUID
}

func (w *world) startGateway(keys *atrest.Keyset) *gateway {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	g := &gateway{w: w, keys: keys, cancel: cancel, done: make(chan error, 1), written: map[gatewayRow]string{}}
	conn := w.connect()
	// It fails rather than wait for a rotation that holds on to a row.
	_, err := conn.Exec(ctx, `SET lock_timeout = '10s'`)
	require.NoError(w.t, err)
	rows, err := conn.Query(ctx, `SELECT p.id, k.id FROM ai_providers p JOIN ai_provider_keys k ON k.provider_id = p.id WHERE name LIKE 'other-%0' ORDER BY p.id`)
	require.NoError(w.t, err)
	type ids struct{ Provider, Key uuid.UUID }
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ids])
	require.NoError(w.t, err)
	go func() { // ends at stop
		for n := 0; ; n++ {
			if ctx.Err() != nil {
				g.done <- nil
				return
			}
			if err := g.write(conn, n, all[n%len(all)].Provider, all[n%len(all)].Key); err != nil {
				g.done <- err
				return
			}
		}
	}()
	return g
}

func (g *gateway) write(conn *pgx.Conn, n int, id, key uuid.UUID) error {
	plain := fmt.Sprintf("sk-rotated-%d", n)
	settings := provider.Bedrock{Region: "us-east-1", AccessKeySecret: secret.New(plain)}.Encode()
	sealedKey, keyID, err := g.keys.SealKey(key, secret.New(plain))
	if err != nil {
		return err
	}
	sealedSettings, _, err := g.keys.SealSettings(id, settings)
	if err != nil {
		return err
	}
	baseURL := fmt.Sprintf("https://h/%d", n)
	// Not broken off, so that it is known what is stored.
	ctx := context.Background()
	for _, write := range []struct {
		query string
		args  []any
		row   gatewayRow
		plain string
	}{
		{`UPDATE ai_provider_keys SET api_key = $2, api_key_key_id = $3 WHERE id = $1`, []any{key, sealedKey, keyID}, gatewayRow{"api_key", key}, plain},
		{`UPDATE ai_providers SET settings = $2, settings_key_id = $3 WHERE id = $1`, []any{id, sealedSettings, keyID}, gatewayRow{"settings", id}, settings.Reveal()},
		{`UPDATE ai_providers SET base_url = $2 WHERE id = $1`, []any{id, baseURL}, gatewayRow{"base_url", id}, baseURL},
	} {
		if _, err := conn.Exec(ctx, write.query, write.args...); err != nil {
			return fmt.Errorf("write %s: %w", write.row.column, err)
		}
		g.written[write.row] = write.plain
	}
	return nil
}

// stop stops the gateway, which must not have had to wait for a lock, and returns
// what it has written last.
func (g *gateway) stop() map[gatewayRow]string {
	g.w.t.Helper()
	g.cancel()
	require.NoError(g.w.t, <-g.done, "the gateway waited for a lock")
	return g.written
}

// read returns what is stored in the column of a row, decrypted.
func (g *gateway) read(row gatewayRow) string {
	g.w.t.Helper()
	query, at := `SELECT base_url, '' FROM ai_providers WHERE id = $1`, atrest.Place("")
	switch row.column {
	case "api_key":
		query, at = `SELECT api_key, coalesce(api_key_key_id, '') FROM ai_provider_keys WHERE id = $1`, atrest.KeyOf(row.id)
	case "settings":
		query, at = `SELECT settings, coalesce(settings_key_id, '') FROM ai_providers WHERE id = $1`, atrest.SettingsOf(row.id)
	}
	var stored secret.Text
	var keyID string
	require.NoError(g.w.t, g.w.db.QueryRow(g.w.t.Context(), query, row.id).Scan(&stored, &keyID))
	plain, err := g.keys.Open(stored, keyID, at)
	require.NoError(g.w.t, err)
	return string(plain)
}

func TestARotationThatIsKilledIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t, "")
	w.migrate()
	const providers = 5000
	w.exec(`INSERT INTO ai_providers (id, type, name, base_url) SELECT gen_random_uuid(), 'openai', 'p-' || n, 'https://h/' FROM generate_series(1, $1::int) AS n`, providers)
	w.exec(`INSERT INTO ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'sk-' || name FROM ai_providers`)
	path, keyID := newKeyset(t)
	encrypted := func() int { return w.count(`SELECT count(*) FROM ai_provider_keys WHERE api_key_key_id = $1`, keyID) }

	p := w.start(environ{"PROVWATCH_KEYSET": path}, "keys", "rotate")
	eventually(t, func() bool { return encrypted() > 0 }, "some are encrypted")
	// Its next transaction waits for this lock, in the middle of its work.
	holder := w.connect()
	_, err := holder.Exec(t.Context(), `SELECT pg_advisory_lock(x'70726f7673656564'::bigint)`)
	require.NoError(t, err)
	p.kill9()
	_, err = holder.Exec(t.Context(), `SELECT pg_advisory_unlock(x'70726f7673656564'::bigint)`)
	require.NoError(t, err)
	require.Less(t, encrypted(), providers)
	require.Positive(t, encrypted())

	r := w.run(environ{"PROVWATCH_KEYSET": path}, "keys", "rotate")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, providers, encrypted())
	require.Equal(t, providers, w.count(`SELECT count(*) FROM provwatch.audit_outbox WHERE action = 'provider.reencrypt'`), "an entry for each, and none twice")
	keys := atresttest.Load(t, path)
	rows, err := w.db.Query(t.Context(), `SELECT k.id, k.api_key, k.api_key_key_id, p.name FROM ai_provider_keys k JOIN ai_providers p ON p.id = k.provider_id`)
	require.NoError(t, err)
	var id uuid.UUID
	var stored secret.Text
	var stamp, name string
	_, err = pgx.ForEachRow(rows, []any{&id, &stored, &stamp, &name}, func() error {
		plain, err := keys.Open(stored, stamp, atrest.KeyOf(id))
		require.Equal(t, "sk-"+name, string(plain))
		return err
	})
	require.NoError(t, err)
}

func TestAMissingKeyIsAnErrorForItsProviderAloneUntilAReloadHasIt(t *testing.T) {
	t.Parallel()
	bothSourcesOf(t, newBareWorld, func(t *testing.T, w *world) {
		path, keyID := newKeyset(t)
		env := w.awsAndOpenAI()
		delete(env, "CODER_AIBRIDGE_OPENAI_KEY")
		require.Zero(t, w.run(env, "seed", "--keyset", path).code)
		content, err := os.ReadFile(path)
		require.NoError(t, err)

		other, _ := newKeyset(t)
		env = w.awsAndOpenAI().with("PROVWATCH_KEYSET", other)
		r := w.run(env, "run")
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, `AI provider "aws" already exists in the database and cannot be compared`)
		require.Contains(t, r.stderr, `encrypted with key "`+keyID+`" (settings_key_id), which this worker does not have: add the key to its --keyset, and send it SIGHUP`)
		require.NotContains(t, r.stderr, "openai")

		p := w.start(env, "run", "--on-boot-drift", "alert").ready()
		w.expectAlerts("changed aws")
		require.Equal(t, []string{"aws", "openai"}, w.strings(`SELECT name FROM ai_providers ORDER BY name`), "the other is seeded")
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("changed aws", "disabled openai")

		// A keyset that cannot be used changes nothing.
		require.NoError(t, os.WriteFile(other, []byte("garbage"), 0o600))
		p.signal(syscall.SIGHUP)
		p.waitFor("the keyset cannot be used, keeping it and the environment in use")
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("changed aws", "disabled openai", "resolved openai")
		require.Zero(t, p.logged("environment reloaded"))

		require.NoError(t, os.WriteFile(other, content, 0o600))
		p.signal(syscall.SIGHUP)
		w.expectAlerts("changed aws", "disabled openai", "resolved openai", "resolved aws")
		// And back: the key is gone again.
		lost, _ := newKeyset(t)
		content, err = os.ReadFile(lost)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(other, content, 0o600))
		p.signal(syscall.SIGHUP)
		w.expectAlerts("changed aws", "disabled openai", "resolved openai", "resolved aws", "changed aws")
		for _, status := range w.payloads(pubsub.Statuses) {
			require.NotContains(t, status, `"gap"`, "the WAL has lost nothing")
		}
		p.stop()
	})
}
