package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/pgtest"
	"provwatch/internal/schema"
	"provwatch/internal/waittest"
)

// encrypting returns the encryption with the keys of a worker that is ready.
func encrypting(t *testing.T, pool *pgxpool.Pool, logger *slog.Logger, keys ...dbcrypttest.Key) *encryption {
	t.Helper()
	h := &health{}
	h.setListening(nil)
	h.setVerified(true, nil)
	return &encryption{
		pool: pool, keys: dbcrypttest.NewRing(t, keys...), health: h, logger: logger,
		privileges: &privileges{pool: pool, leadership: &leadership{}, health: h, logger: logger},
	}
}

func TestEncryption(t *testing.T) {
	t.Parallel()
	t.Run("InactiveKey", testEncryptionInactiveKey)
	t.Run("ActivatedKey", testEncryptionActivatedKey)
	t.Run("ReloadedKey", testEncryptionReloadedKey)
	t.Run("ChecksAtOnce", testEncryptionChecksAtOnce)
}

// testEncryptionInactiveKey revokes the key of a worker, which is not ready then, and registers
// the key that replaces it.
func testEncryptionInactiveKey(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key, next := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	var log bytes.Buffer
	e := encrypting(t, pool, slog.New(slog.NewTextHandler(&log, nil)), key)
	check := func() error {
		e.check(t.Context())
		return e.health.ready()
	}
	require.NoError(t, check())
	_, err := pool.Exec(t.Context(), `UPDATE public.dbcrypt_keys SET active_key_digest = NULL, revoked_key_digest = active_key_digest, revoked_at = now()`)
	require.NoError(t, err)
	for range 2 {
		require.ErrorContains(t, check(), "secrets cannot be encrypted: none of the configured keys ("+key.Digest())
		require.ErrorContains(t, check(), key.Digest()+" (revoked)")
	}
	require.Equal(t, 1, strings.Count(log.String(), "cannot be used"), "logged once")
	e.keys.Replace(dbcrypttest.NewRing(t, next, key).Keys())
	require.Error(t, check())
	dbcrypttest.Register(t, pool, next)
	require.NoError(t, check())
	require.Contains(t, log.String(), "can be used again")
	// What cannot be looked at is not known, and changes nothing.
	e.keys.Replace(dbcrypt.Keys{})
	require.NoError(t, check(), "without a key there is nothing to encrypt with")
}

// testEncryptionActivatedKey has neither a notification nor a
// resync follow the gateway's registration.
func testEncryptionActivatedKey(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	e := encrypting(t, pool, slog.New(slog.DiscardHandler), key)
	r := &resync{interval: time.Hour, encryption: e, health: e.health, privileges: e.privileges, leadership: e.privileges.leadership}
	e.check(t.Context())
	require.ErrorContains(t, e.health.ready(), "secrets cannot be encrypted")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{}, 1)
	go func() {
		r.run(ctx)
		ended <- struct{}{}
	}()
	dbcrypttest.Register(t, pool, key)
	waittest.Until(t, func() bool { return e.health.ready() == nil }, "the worker is ready")
	stop()
	waittest.Receive(t, ended, "the resync ends")
}

// testEncryptionReloadedKey requires that the key of a reload is registered in provwatch's own
// tables, for which no gateway registers it.
func testEncryptionReloadedKey(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	e := encrypting(t, pool, slog.New(slog.DiscardHandler), key)
	e.migrate = schema.Check
	check := func() error {
		e.check(t.Context())
		return e.health.ready()
	}
	require.ErrorContains(t, check(), "none of the configured keys", "no more than asked for")
	e.migrate = schema.Auto
	require.NoError(t, check())
	var registered string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT active_key_digest FROM public.dbcrypt_keys`).Scan(&registered))
	require.Equal(t, key.Digest(), registered)

	_, err := pool.Exec(t.Context(), `UPDATE public.dbcrypt_keys SET active_key_digest = NULL, revoked_key_digest = active_key_digest, revoked_at = now()`)
	require.NoError(t, err)
	require.ErrorContains(t, check(), key.Digest()+" (revoked)", "what was revoked stays so")
}

// testEncryptionChecksAtOnce has the gateway revoke the key just after a check has read it. A
// check that begins then ends before the first one, whose result is no longer true.
func testEncryptionChecksAtOnce(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	var e *encryption
	var later error
	traced := config.Copy()
	traced.ConnConfig.Tracer = &afterQuery{text: "name: listKeys", do: func() {
		_, err := pool.Exec(context.Background(), `UPDATE public.dbcrypt_keys SET active_key_digest = NULL, revoked_key_digest = active_key_digest, revoked_at = now()`)
		require.NoError(t, err)
		e.check(context.Background())
		later = e.health.ready()
	}}
	looking, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	defer looking.Close()
	e = encrypting(t, looking, slog.New(slog.DiscardHandler), key)
	e.check(t.Context())
	require.ErrorContains(t, later, "secrets cannot be encrypted")
	require.EqualError(t, e.health.ready(), later.Error())
}
