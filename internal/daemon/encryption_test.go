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
	"provwatch/internal/observe"
	"provwatch/internal/pgtest"
	"provwatch/internal/schema"
	"provwatch/internal/waittest"
)

// encrypting returns a daemon that is ready, and encrypts with the keys.
func encrypting(t *testing.T, pool *pgxpool.Pool, logger *slog.Logger, keys ...dbcrypttest.Key) *daemon {
	t.Helper()
	h := &health{}
	h.setListening(nil)
	h.setVerified(true, nil)
	return &daemon{
		Options: Options{Logger: logger, Keys: dbcrypttest.NewRing(t, keys...)},
		course:  &course{metrics: telling{Metrics: observe.NewMetrics("test"), health: h}, health: h, life: &life{}},
		pool:    pool,
	}
}

// TestAWorkerWhoseKeyIsNotActiveIsNotReady revokes the key of a worker, and registers
// the one that it is given instead.
func TestAWorkerWhoseKeyIsNotActiveIsNotReady(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key, next := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	var log bytes.Buffer
	d := encrypting(t, pool, slog.New(slog.NewTextHandler(&log, nil)), key)
	check := func() error {
		d.checkEncryption(t.Context())
		return d.health.ready()
	}
	require.NoError(t, check())
	_, err := pool.Exec(t.Context(), `UPDATE public.dbcrypt_keys SET active_key_digest = NULL, revoked_key_digest = active_key_digest, revoked_at = now()`)
	require.NoError(t, err)
	for range 2 {
		require.ErrorContains(t, check(), "secrets cannot be encrypted: none of the configured keys ("+key.Digest())
		require.ErrorContains(t, check(), key.Digest()+" (revoked)")
	}
	require.Equal(t, 1, strings.Count(log.String(), "cannot be used"), "logged once")
	d.Keys.Replace(dbcrypttest.NewRing(t, next, key).Keys())
	require.Error(t, check())
	dbcrypttest.Register(t, pool, next)
	require.NoError(t, check())
	require.Contains(t, log.String(), "can be used again")
	// What cannot be looked at is not known, and changes nothing.
	d.Keys.Replace(dbcrypt.Keys{})
	require.NoError(t, check(), "without a key there is nothing to encrypt with")
}

// TestAKeyThatBecomesActiveIsFoundWithoutAVerification has neither a notification nor a
// resync follow the gateway's registration.
func TestAKeyThatBecomesActiveIsFoundWithoutAVerification(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	d := encrypting(t, pool, slog.New(slog.DiscardHandler), key)
	d.Resync = time.Hour
	d.checkEncryption(t.Context())
	require.ErrorContains(t, d.health.ready(), "secrets cannot be encrypted")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{}, 1)
	go func() {
		d.resync(ctx)
		ended <- struct{}{}
	}()
	dbcrypttest.Register(t, pool, key)
	waittest.Until(t, func() bool { return d.health.ready() == nil }, "the worker is ready")
	stop()
	waittest.Receive(t, ended, "the resync ends")
}

// TestAKeyThatAReloadBringsIsRegistered has provwatch's own tables, for which no gateway
// registers it.
func TestAKeyThatAReloadBringsIsRegistered(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	d := encrypting(t, pool, slog.New(slog.DiscardHandler), key)
	d.Migrate = schema.Check
	check := func() error {
		d.checkEncryption(t.Context())
		return d.health.ready()
	}
	require.ErrorContains(t, check(), "none of the configured keys", "no more than asked for")
	d.Migrate = schema.Auto
	require.NoError(t, check())
	var registered string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT active_key_digest FROM public.dbcrypt_keys`).Scan(&registered))
	require.Equal(t, key.Digest(), registered)

	_, err := pool.Exec(t.Context(), `UPDATE public.dbcrypt_keys SET active_key_digest = NULL, revoked_key_digest = active_key_digest, revoked_at = now()`)
	require.NoError(t, err)
	require.ErrorContains(t, check(), key.Digest()+" (revoked)", "what was revoked stays so")
}

func TestReadinessListsWhatCannotBeCompared(t *testing.T) {
	t.Parallel()
	changes := 0
	h := &health{changed: func() { changes++ }}
	h.setListening(nil)
	h.setVerified(true, nil)
	changes = 0
	for range 2 {
		h.setNotComparable(map[string]string{"b": "the reason", "a": "another"})
	}
	require.Equal(t, 1, changes)
	remarks, err := h.readiness()
	require.NoError(t, err)
	require.Equal(t, []string{"a: cannot be compared: another", "b: cannot be compared: the reason"}, remarks)
	require.Equal(t, remarks, h.worker().NotComparable)
	many := map[string]string{}
	for _, name := range strings.Fields(strings.Repeat("x ", maxRemarks+2)) {
		many[name+strings.Repeat("y", len(many))] = "r"
	}
	h.setNotComparable(many)
	remarks, _ = h.readiness()
	require.Len(t, remarks, maxRemarks+1)
	require.Equal(t, "and 2 more cannot be compared", remarks[maxRemarks])
	h.setNotComparable(nil)
	remarks, _ = h.readiness()
	require.Empty(t, remarks)
}
