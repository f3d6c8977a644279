package reconcile_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/waittest"
)

// storedBedrock returns the settings of the one row that there is, decrypted by the
// independent reader.
func storedBedrock(t *testing.T, pool *pgxpool.Pool, key dbcrypttest.Key) *provider.Bedrock {
	t.Helper()
	var stored, keyID string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT settings, settings_key_id FROM public.ai_providers`).Scan(&stored, &keyID))
	require.Equal(t, key.Digest(), keyID)
	plain, err := key.Decrypt(stored)
	require.NoError(t, err)
	decoded, err := provider.ParseSettings([]byte(plain))
	require.NoError(t, err)
	return decoded
}

func TestTakeEnvEncrypted(t *testing.T) {
	t.Parallel()
	t.Run("KeepsAndEncrypts", testTakeEnvEncryptedKeepsAndEncrypts)
	t.Run("KeyForSecretsAlone", testTakeEnvEncryptedKeyForSecretsAlone)
	t.Run("TurnedOnMeanwhile", testTakeEnvEncryptedTurnedOnMeanwhile)
	t.Run("KeyRevokedMeanwhile", testTakeEnvEncryptedKeyRevokedMeanwhile)
}

// testTakeEnvEncryptedKeepsAndEncrypts checks that taking the environment keeps encrypted
// credentials and encrypts what it writes.
func testTakeEnvEncryptedKeepsAndEncrypts(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key, another := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key, another)
	keys := dbcrypttest.NewRing(t, key)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrock("us-east-1")}, false, slog.New(slog.DiscardHandler), seed.WithKeys(keys))
	require.NoError(t, err)

	rotated := bedrock("eu-west-1")
	rotated.Bedrock.AccessKeySecret = secret.New("of another environment")
	outcome, err := takeEnv(t.Context(), pool, keys, rotated, false, drift.IgnoreCredentials)
	require.NoError(t, err)
	require.Equal(t, drift.Changed, outcome.Kind)
	stored := storedBedrock(t, pool, key)
	require.Equal(t, []string{"eu-west-1", "environment"}, []string{stored.Region, stored.AccessKeySecret.Reveal()}, "the stored credentials are kept")

	outcome, err = takeEnv(t.Context(), pool, keys, rotated, true, drift.IgnoreCredentials)
	require.NoError(t, err)
	require.Equal(t, "bedrock_credentials", outcome.Fields[0].Name)
	require.Equal(t, "of another environment", storedBedrock(t, pool, key).AccessKeySecret.Reveal())
	outcome, err = takeEnv(t.Context(), pool, keys, rotated, true, drift.IgnoreCredentials)
	require.NoError(t, err)
	require.Equal(t, drift.InSync, outcome.Kind)

	// Without the key nothing is discarded unless that is asked for.
	other := dbcrypttest.NewRing(t, another)
	_, err = takeEnv(t.Context(), pool, other, bedrock("ap-east-1"), false, drift.IgnoreCredentials)
	require.ErrorIs(t, err, dbcrypt.ErrUnknownKey)
	require.ErrorContains(t, err, "what they hold would be lost")
	_, err = takeDB(t.Context(), pool, other, bedrock("ap-east-1"), drift.IgnoreCredentials)
	require.ErrorIs(t, err, dbcrypt.ErrUnknownKey)
	_, err = takeEnv(t.Context(), pool, other, bedrock("ap-east-1"), true, drift.IgnoreCredentials)
	require.ErrorIs(t, err, dbcrypt.ErrUnknownKey, "what cannot be read is not overwritten either")
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET settings = NULL, settings_key_id = NULL`)
	require.NoError(t, err)
	_, err = takeEnv(t.Context(), pool, other, bedrock("ap-east-1"), true, drift.IgnoreCredentials)
	require.NoError(t, err)
	require.Equal(t, "ap-east-1", storedBedrock(t, pool, another).Region)
}

// testTakeEnvEncryptedKeyForSecretsAlone has a database with an active key, of which the
// worker has none. Only secrets need it.
func testTakeEnvEncryptedKeyForSecretsAlone(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key, unregistered := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	openai := func(baseURL, key string) provider.Desired {
		return provider.Desired{Name: "openai", Type: provider.OpenAI, BaseURL: baseURL, Keys: []secret.Text{secret.New(key)}}
	}
	desired := []provider.Desired{bedrock("us-east-1"), openai("https://h/", "sk-stored")}
	_, err := seed.Seed(t.Context(), pool, desired, false, slog.New(slog.DiscardHandler), seed.WithKeys(dbcrypttest.NewRing(t, key)))
	require.NoError(t, err)
	encrypted := func() []string {
		return list(t, pool, `SELECT settings FROM public.ai_providers WHERE settings_key_id = $1
			UNION ALL SELECT api_key FROM public.ai_provider_keys WHERE api_key_key_id = $1`, key.Digest())
	}
	before := encrypted()
	require.Len(t, before, 2)
	_, err = takeEnv(t.Context(), pool, noKeys, bedrock("eu-west-1"), true, drift.IgnoreCredentials)
	require.ErrorIs(t, err, dbcrypt.ErrUnknownKey)
	_, err = takeEnv(t.Context(), pool, noKeys, openai("https://h/", "sk-other"), true, drift.IgnoreCredentials)
	var missing *dbcrypt.NeedsKeyError
	require.ErrorAs(t, err, &missing)
	require.ErrorContains(t, err, `an API key of provider "openai" cannot be stored`)
	_, err = takeEnv(t.Context(), pool, noKeys, openai("https://h/", "sk-stored"), false, drift.AlertCredentials)
	require.ErrorContains(t, err, "its credentials cannot be compared: encrypted with key "+key.Digest())
	_, err = takeDB(t.Context(), pool, noKeys, openai("https://h/", "sk-stored"), drift.AlertCredentials)
	require.ErrorContains(t, err, "its row cannot be compared and is not accepted")
	// What leaves secrets alone needs no key.
	_, err = takeEnv(t.Context(), pool, noKeys, openai("https://other/", "sk-other"), false, drift.IgnoreCredentials)
	require.NoError(t, err)
	require.Equal(t, before, encrypted(), "nothing is encrypted again either")
	// With one that is not active nothing is written at all.
	_, err = takeEnv(t.Context(), pool, dbcrypttest.NewRing(t, unregistered, key), openai("https://h/", "sk-stored"), false, drift.IgnoreCredentials)
	require.NoError(t, err, "the second is")
	_, err = takeEnv(t.Context(), pool, dbcrypttest.NewRing(t, unregistered), openai("https://other/", "sk-stored"), false, drift.IgnoreCredentials)
	var unusable *dbcrypt.UnusableError
	require.ErrorAs(t, err, &unusable)
}

// held begins a transaction of the gateway's with a statement, and returns what commits
// it once a session waits for it.
func held(t *testing.T, pool *pgxpool.Pool, statement string, args ...any) (commit func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), statement, args...)
	require.NoError(t, err)
	return func() {
		t.Helper()
		waittest.Until(t, func() bool {
			var waiting int
			require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND $1 = ANY (pg_blocking_pids(pid))`, int32(tx.Conn().PgConn().PID())).Scan(&waiting))
			return waiting > 0
		}, "a session waits for the gateway's transaction")
		require.NoError(t, tx.Commit(t.Context()))
	}
}

// takingEnv begins to take the environment, and returns what waits for the result.
func takingEnv(t *testing.T, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired provider.Desired) (wait func() error) {
	result := make(chan error, 1)
	go func() {
		_, err := takeEnv(context.WithoutCancel(t.Context()), pool, keys, desired, false, drift.IgnoreCredentials)
		result <- err
	}()
	return func() error { return waittest.Receive(t, result, "the environment is taken") }
}

// testTakeEnvEncryptedTurnedOnMeanwhile has a gateway at work on the row that turns
// encryption on. Taking the environment waits for it.
func testTakeEnvEncryptedTurnedOnMeanwhile(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrock("us-east-1")}, false, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	key := dbcrypttest.NewKey()
	commit := held(t, pool, `WITH key AS (INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES (1, $1, $2) RETURNING active_key_digest)
		UPDATE public.ai_providers SET settings = $3, settings_key_id = active_key_digest FROM key`,
		key.Digest(), key.Encrypt("coder"), key.Encrypt(bedrock("us-east-1").Settings().Reveal()))
	wait := takingEnv(t, pool, dbcrypttest.NewRing(t, key), bedrock("eu-west-1"))
	commit()
	require.NoError(t, wait())
	require.Equal(t, "eu-west-1", storedBedrock(t, pool, key).Region)
}

// testTakeEnvEncryptedKeyRevokedMeanwhile revokes the key after it was looked for. The
// next key encrypts.
func testTakeEnvEncryptedKeyRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, first, second)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrock("us-east-1")}, false, slog.New(slog.DiscardHandler), seed.WithKeys(dbcrypttest.NewRing(t, second)))
	require.NoError(t, err)
	commit := held(t, pool, `UPDATE public.dbcrypt_keys SET active_key_digest = NULL, revoked_key_digest = active_key_digest, revoked_at = now()
		WHERE active_key_digest = $1`, first.Digest())
	wait := takingEnv(t, pool, dbcrypttest.NewRing(t, first, second), bedrock("eu-west-1"))
	commit()
	require.NoError(t, wait())
	require.Equal(t, "eu-west-1", storedBedrock(t, pool, second).Region)
	require.Equal(t, []string{"provider.update"}, list(t, pool, `SELECT action FROM provwatch.audit_outbox WHERE actor LIKE 'operator:%'`), "it is staged once")
}

// TestAcceptCredentials checks that a drift of credentials that must agree cannot be
// accepted.
func TestAcceptCredentials(t *testing.T) {
	t.Parallel()
	key, another := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	keys, other := dbcrypttest.NewRing(t, key), dbcrypttest.NewRing(t, another)
	stored := provider.Desired{Name: "gpt", Type: provider.OpenAI, BaseURL: "https://h/", Variables: "X", Keys: []secret.Text{secret.New("k")}}
	pool, _ := pgtest.NewPool(t)
	dbcrypttest.Register(t, pool, key, another)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{stored}, false, slog.New(slog.DiscardHandler), seed.WithKeys(keys))
	require.NoError(t, err)

	desired := stored
	desired.BaseURL = "https://env/"
	accept := func(k *dbcrypt.Ring) (reconcile.Outcome, error) {
		return takeDB(t.Context(), pool, k, desired, drift.RequireCredentials)
	}
	_, err = accept(other)
	require.ErrorContains(t, err, "its credentials cannot be compared: ")
	desired.Keys = []secret.Text{secret.New("rotated")}
	_, err = accept(keys)
	require.ErrorContains(t, err, "its credentials differ: ")
	require.ErrorContains(t, err, "use --take env --with-keys")
	var accepted int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM provwatch.accepted_drift`).Scan(&accepted))
	require.Zero(t, accepted)
	// What agrees does not stand in the way.
	desired.Keys = stored.Keys
	outcome, err := accept(keys)
	require.NoError(t, err)
	require.Equal(t, drift.Changed, outcome.Kind)
}
