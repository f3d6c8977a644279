package verify_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/verify"
)

func bedrock(name, accessKeySecret string) provider.Desired {
	return provider.Desired{Name: name, Type: provider.Anthropic, Variables: "X", Bedrock: &provider.Bedrock{
		Region: "us-east-1", AccessKey: secret.New("AKIA-plain"), AccessKeySecret: secret.New(accessKeySecret),
	}}
}

func TestEncryptedRows(t *testing.T) {
	t.Parallel()
	t.Run("Credentials", testEncryptedRowsCredentials)
	t.Run("NotComparable", testEncryptedRowsNotComparable)
	t.Run("UnreadableCredentials", testEncryptedRowsUnreadableCredentials)
	t.Run("DriftEndsWithoutKeys", testEncryptedRowsDriftEndsWithoutKeys)
	t.Run("AcceptedDeletion", testEncryptedRowsAcceptedDeletion)
	t.Run("CommitShowsNoCredentials", testEncryptedRowsCommitShowsNoCredentials)
	t.Run("Reencryption", testEncryptedRowsReencryption)
}

func testEncryptedRowsCredentials(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	keys := dbcrypttest.NewRing(t, key)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrock("aws", "plain-1"), openAI("gpt", "key-1", "key-2")}, false, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	exec(t, pool, `INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'key-3' FROM public.ai_providers WHERE name = 'gpt'`)

	v := verify.New(pool, []provider.Desired{bedrock("aws", "plain-1"), openAI("gpt", "key-3", "key-2", "key-1")}, drift.AlertCredentials, quiet, &counter{})
	v.Decrypt(keys)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Empty(t, alerts(t, pool), "two encrypted keys and one in plain text")

	v.SetDesired([]provider.Desired{bedrock("aws", "plain-2"), openAI("gpt", "key-1", "key-2", "key-4")})
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed aws resync", "2 changed gpt resync"}, alerts(t, pool))
	fields := value(t, pool, `SELECT string_agg(fields::text, ' ' ORDER BY seq) FROM provwatch.drift_alerts`)
	require.Contains(t, fields, "2 of 2 set, 1 of 2 differ")
	require.Contains(t, fields, "3, of these 1 not in the environment")

	for _, plain := range []string{"plain-", "key-1", "key-3", "AKIA"} {
		require.NotContains(t, fields, plain)
	}
}

// testEncryptedRowsNotComparable takes the keys away from a verifier, and gives them back.
func testEncryptedRowsNotComparable(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	keys := dbcrypttest.NewRing(t, key)
	desired := []provider.Desired{bedrock("aws", "plain-1"), bedrock("drifts", "plain-1"), openAI("gpt", "key-1"), openAI("new")}
	_, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	var log strings.Builder
	var metrics counter
	v := verify.New(pool, desired, drift.AlertCredentials, slog.New(slog.NewTextHandler(&log, nil)), &metrics)
	v.Decrypt(keys)
	desired[1].Bedrock.Region = "eu-west-1"
	v.SetDesired(desired)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed drifts resync"}, alerts(t, pool))
	require.Empty(t, metrics.notComparable)
	states := func() string {
		return value(t, pool, `SELECT string_agg(to_jsonb(s)::text, ' ' ORDER BY provider) FROM provwatch.drift_state s`)
	}
	before := states()

	keys.Replace(dbcrypt.Keys{})
	for range 2 {
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	require.Len(t, alerts(t, pool), 1)
	require.Equal(t, before, states())
	reason := "encrypted with key " + key.Digest() + ", which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS"
	require.Equal(t, map[string]string{"aws": reason, "drifts": reason, "gpt": reason}, metrics.notComparable)
	require.Equal(t, map[drift.Kind]int{drift.Changed: 1}, metrics.drifting)
	require.Equal(t, 3, strings.Count(log.String(), "provider cannot be compared with the environment"), "once each")
	require.NotContains(t, log.String(), "plain-1")

	// A drift that does not depend on what is encrypted is alerted all the same, and
	// another provider's as well.
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://other/' WHERE name IN ('gpt', 'new')`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"2 changed gpt resync", "3 changed new resync"}, alerts(t, pool)[1:])
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://h/' WHERE name IN ('gpt', 'new')`)

	keys.Replace(dbcrypttest.NewRing(t, key).Keys())
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"4 resolved gpt resync", "5 resolved new resync"}, alerts(t, pool)[3:])
	require.Empty(t, metrics.notComparable)
	require.Equal(t, 3, strings.Count(log.String(), "provider can be compared again"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'aws'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"6 disabled aws resync"}, alerts(t, pool)[5:])
}

// testEncryptedRowsUnreadableCredentials has a provider whose key differs, and whose base
// URL changes while the key cannot be decrypted.
func testEncryptedRowsUnreadableCredentials(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	keys := dbcrypttest.NewRing(t, key)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "key-1")}, false, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	v := verify.New(pool, []provider.Desired{openAI("gpt", "key-2")}, drift.AlertCredentials, quiet, &counter{})
	v.Decrypt(keys)
	credentials := func() string {
		require.NoError(t, v.Verify(t.Context(), resync))
		return value(t, pool, `SELECT credentials FROM provwatch.drift_state`)
	}
	before := credentials()
	require.Contains(t, before, "1 not in the database")
	keys.Replace(dbcrypt.Keys{})
	require.Equal(t, before, credentials())
	require.Equal(t, []string{"1 changed gpt resync"}, alerts(t, pool))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://other/'`)
	require.Equal(t, before, credentials())
	require.Equal(t, []string{"2 changed gpt resync"}, alerts(t, pool)[1:])
}

// testEncryptedRowsDriftEndsWithoutKeys has drifts of something else than API keys that
// are put right while these cannot be decrypted.
func testEncryptedRowsDriftEndsWithoutKeys(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	keys := dbcrypttest.NewRing(t, key)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "key-1"), openAI("rotated", "key-1")}, false, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	var log strings.Builder
	var metrics counter
	v := verify.New(pool, []provider.Desired{openAI("gpt", "key-1"), openAI("rotated", "key-2")}, drift.AlertCredentials,
		slog.New(slog.NewTextHandler(&log, nil)), &metrics)
	v.Decrypt(keys)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'rotated'; UPDATE public.ai_providers SET base_url = 'https://other/' WHERE name = 'gpt'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed gpt resync", "2 disabled rotated resync"}, alerts(t, pool))

	keys.Replace(dbcrypt.Keys{})
	exec(t, pool, `UPDATE public.ai_providers SET enabled = true, base_url = 'https://h/'`)
	for range 2 {
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	// Of the second one the keys still differ, as far as is known.
	require.Equal(t, []string{"3 resolved gpt resync", "4 changed rotated resync"}, alerts(t, pool)[2:])
	require.Contains(t, value(t, pool, `SELECT fields::text FROM provwatch.drift_alerts WHERE seq = 4`), "cannot be compared: encrypted with key "+key.Digest())
	require.Equal(t, "gpt rotated", value(t, pool, `SELECT string_agg(provider, ' ' ORDER BY provider) FROM provwatch.not_comparable`))
	require.Len(t, metrics.notComparable, 2)
	require.Equal(t, map[drift.Kind]int{drift.Changed: 1}, metrics.drifting)
	require.Equal(t, 2, strings.Count(log.String(), "provider cannot be compared with the environment"), log.String())
	require.NotContains(t, log.String(), "can be compared again")

	keys.Replace(dbcrypttest.NewRing(t, key).Keys())
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Len(t, alerts(t, pool), 4)
	require.Empty(t, metrics.notComparable)
	v.SetDesired([]provider.Desired{openAI("gpt", "key-1"), openAI("rotated", "key-1")})
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"5 resolved rotated resync"}, alerts(t, pool)[4:])
}

// testEncryptedRowsAcceptedDeletion encrypts the settings of a soft-deleted row, which a
// verifier without the key cannot hash.
func testEncryptedRowsAcceptedDeletion(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	desired := []provider.Desired{bedrock("aws", "plain-1")}
	_, err := seed.Seed(t.Context(), pool, desired, false, quiet)
	require.NoError(t, err)
	keys := dbcrypt.NewRing(dbcrypt.Keys{})
	v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
	v.Decrypt(keys)
	exec(t, pool, `UPDATE public.ai_providers SET deleted = true`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		SELECT provider, kind, env_hash, db_hash, 'test' FROM provwatch.drift_state`)
	require.NoError(t, v.Verify(t.Context(), resync))
	accepted := []string{"1 deleted aws resync", "2 resolved aws resync"}
	require.Equal(t, accepted, alerts(t, pool))
	seeds := func() {
		t.Helper()
		plan, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(keys))
		require.NoError(t, err)
		require.True(t, plan.Steps[0].IsAccepted())
	}
	seeds()

	dbcrypttest.Register(t, pool, key)
	exec(t, pool, `UPDATE public.ai_providers SET settings = $1, settings_key_id = $2`, key.Encrypt(desired[0].Settings().Reveal()), key.Digest())
	for range 2 {
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	require.Equal(t, accepted, alerts(t, pool))
	seeds()
	keys.Replace(dbcrypttest.NewRing(t, key).Keys())
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, accepted, alerts(t, pool))
	seeds()

	// What is changed in it ends the acceptance all the same, once it can be read.
	desired[0].Bedrock.Region = "eu-west-1"
	exec(t, pool, `UPDATE public.ai_providers SET settings = $1`, key.Encrypt(desired[0].Settings().Reveal()))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"3 deleted aws resync"}, alerts(t, pool)[2:])
}

// testEncryptedRowsCommitShowsNoCredentials records what the WAL shows of a provider whose
// key cannot be decrypted: a row in sync.
func testEncryptedRowsCommitShowsNoCredentials(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	desired := []provider.Desired{openAI("gpt", "key-1")}
	_, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(dbcrypttest.NewRing(t, key)))
	require.NoError(t, err)
	var metrics counter
	v := verify.New(pool, desired, drift.AlertCredentials, quiet, &metrics)
	require.NoError(t, v.Verify(t.Context(), resync))
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	record := func(baseURL string) []string {
		observed := drift.Compare(hasher, desired[0], &provider.Row{
			ID: idOf(t, pool, "gpt"), Name: "gpt", Type: provider.OpenAI, BaseURL: baseURL, Enabled: true,
		}, false)
		var recorded verify.Recorded
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
			commit := &pubsub.Commit{LSN: "0/1", CommittedAt: time.Now()}
			recorded, err = v.Record(t.Context(), tx, []verify.Observed{{Observation: observed, Commit: commit}}, pubsub.SourceWAL)
			return err
		}))
		v.Announce(t.Context(), recorded)
		return alerts(t, pool)
	}
	noted := func() string {
		return value(t, pool, `SELECT coalesce(string_agg(provider, ' '), '') FROM provwatch.not_comparable`)
	}
	require.Equal(t, "gpt", noted())
	require.Empty(t, record("https://h/"))
	require.Equal(t, "gpt", noted())
	require.Len(t, metrics.notComparable, 1)
	// A drift that the WAL shows is alerted, whatever its credentials are.
	require.Equal(t, []string{"1 changed gpt wal"}, record("https://other/"))
	require.Empty(t, noted())
	require.Equal(t, []string{"1 changed gpt wal", "2 resolved gpt wal"}, record("https://h/"))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, "gpt", noted())
	require.Len(t, alerts(t, pool), 2)
}

// testEncryptedRowsReencryption writes rows as the gateway does when encryption is turned
// on, rotated and turned off.
func testEncryptedRowsReencryption(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	desired := []provider.Desired{bedrock("aws", "plain-1"), openAI("gpt", "key-1", "key-2")}
	_, err := seed.Seed(t.Context(), pool, desired, false, quiet)
	require.NoError(t, err)
	dbcrypttest.Register(t, pool, first, second)
	var metrics counter
	v := verify.New(pool, desired, drift.AlertCredentials, quiet, &metrics)
	v.Decrypt(dbcrypttest.NewRing(t, second, first))
	settings := desired[0].Settings().Reveal()
	unchanged := func() {
		t.Helper()
		require.NoError(t, v.Verify(t.Context(), resync))
		require.Empty(t, alerts(t, pool))
		require.Empty(t, metrics.notComparable)
	}
	unchanged()
	for _, key := range []dbcrypttest.Key{first, second} {
		exec(t, pool, `UPDATE public.ai_providers SET settings = $1, settings_key_id = $2 WHERE name = 'aws'`, key.Encrypt(settings), key.Digest())
		unchanged()
		for _, plain := range []string{"key-1", "key-2"} { // in some order
			exec(t, pool, `UPDATE public.ai_provider_keys SET api_key = $1, api_key_key_id = $2 WHERE id = (
				SELECT id FROM public.ai_provider_keys WHERE api_key_key_id IS DISTINCT FROM $2 ORDER BY id LIMIT 1)`, key.Encrypt(plain), key.Digest())
		}
		unchanged()
	}
	exec(t, pool, `UPDATE public.ai_providers SET settings = $1, settings_key_id = NULL WHERE name = 'aws'`, settings)
	unchanged()
}
