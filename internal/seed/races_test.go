package seed_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/seed"
	"provwatch/internal/waittest"
)

// seedBeside seeds while a transaction of the gateway's, which has run the statement and
// takes no lock of ours, is open, and commits that once the seed waits for it.
func seedBeside(t *testing.T, pool *pgxpool.Pool, desired provider.Desired, keys []dbcrypttest.Key, statement string, args ...any) drift.Plan {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), statement, args...)
	require.NoError(t, err)
	type result struct {
		plan drift.Plan
		err  error
	}
	ring := dbcrypttest.NewRing(t, keys...)
	ended := make(chan result, 1)
	go func() {
		plan, err := seed.Seed(t.Context(), pool, []provider.Desired{desired}, false, quiet, seed.WithKeys(ring))
		ended <- result{plan, err}
	}()
	waittest.Until(t, func() bool {
		var waits bool
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))`,
			int32(tx.Conn().PgConn().PID())).Scan(&waits))
		return waits
	}, "the seed waits for the gateway's transaction")
	require.NoError(t, tx.Commit(t.Context()))
	seeded := waittest.Receive(t, ended, "the seed ends")
	require.NoError(t, seeded.err)
	return seeded.plan
}

func TestSeedRaces(t *testing.T) {
	t.Parallel()
	t.Run("KeyRevoked", testSeedRacesKeyRevoked)
	t.Run("RowInserted", testSeedRacesRowInserted)
}

// testSeedRacesKeyRevoked revokes the key after the seed has looked for it.
func testSeedRacesKeyRevoked(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first, second := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, first, second)
	plan := seedBeside(t, pool, openAI("gpt", "https://h/", "sk-1"), []dbcrypttest.Key{first, second}, `
		UPDATE public.dbcrypt_keys SET active_key_digest = NULL, revoked_key_digest = active_key_digest, revoked_at = now() WHERE active_key_digest = $1`, first.Digest())
	require.Equal(t, 1, plan.Count(drift.ActionInsert))
	require.Equal(t, []string{second.Digest()}, lines(t, pool, `SELECT api_key_key_id FROM public.ai_provider_keys`))
	require.Equal(t, []string{"sk-1"}, opened(t, pool, second))
	require.Equal(t, []string{"provider.create", "provider_key.create"}, lines(t, pool, `SELECT action FROM provwatch.audit_outbox ORDER BY seq`), "staged once")
}

// testSeedRacesRowInserted has the gateway's API insert the provider after the seed has
// looked for it.
func testSeedRacesRowInserted(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	plan := seedBeside(t, pool, openAI("gpt", "https://h/", "sk-1"), nil, `
		INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'gpt', 'https://h/')`)
	require.Equal(t, 1, plan.Count(drift.ActionUnchanged))
	require.Empty(t, lines(t, pool, `SELECT id::text FROM public.ai_provider_keys UNION ALL SELECT action FROM provwatch.audit_outbox`))
}
