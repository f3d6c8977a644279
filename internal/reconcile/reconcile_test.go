package reconcile_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func bedrock(region string) provider.Desired {
	return provider.Desired{Name: "aws", Type: provider.Anthropic, Variables: "X", Bedrock: &provider.Bedrock{
		Region: region, Model: "m", SmallFastModel: "s",
		AccessKey: secret.New("AKIA-environment"), AccessKeySecret: secret.New("environment"),
	}}
}

// seededWith returns a database with the provider seeded.
func seededWith(t *testing.T, d provider.Desired) *pgxpool.Pool {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{d}, false, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return pool
}

// takeEnv resolves one provider by writing the environment's fields.
func takeEnv(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired provider.Desired, withKeys bool, mode drift.CredentialMode) (reconcile.Outcome, error) {
	return resolveOne(ctx, pool, keys, desired, reconcile.Request{Side: reconcile.Environment, WithKeys: withKeys, Credentials: mode})
}

// takeDB resolves one provider by accepting the database's fields.
func takeDB(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired provider.Desired, mode drift.CredentialMode) (reconcile.Outcome, error) {
	return resolveOne(ctx, pool, keys, desired, reconcile.Request{Side: reconcile.Database, Credentials: mode})
}

func resolveOne(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired provider.Desired, request reconcile.Request) (reconcile.Outcome, error) {
	request.Operator = reconcile.Operator{User: "test", UID: -1}
	outcomes, err := reconcile.Resolve(ctx, pool, keys, []provider.Desired{desired}, request)
	if err != nil {
		return reconcile.Outcome{}, err
	}
	return outcomes[0], nil
}

// noKeys are those of a worker for which none is configured.
var noKeys = dbcrypt.NewRing(dbcrypt.Keys{})

// during runs a statement in a transaction of another program, resolves while it
// is open, and commits it once the resolving waits for it.
func during(t *testing.T, pool *pgxpool.Pool, statement string, take func() error) error {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), statement)
	require.NoError(t, err)
	resolved := make(chan error, 1)
	go func() { resolved <- take() }()
	waittest.Until(t, func() bool {
		var waiting int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting))
		return waiting > 0
	}, "the resolving waits for the lock")
	require.NoError(t, tx.Commit(t.Context()))
	return <-resolved
}

func value(t *testing.T, pool *pgxpool.Pool, query string) (text string) {
	t.Helper()
	err := pool.QueryRow(t.Context(), query).Scan(&text)
	if err != pgx.ErrNoRows {
		require.NoError(t, err)
	}
	return text
}

func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	t.Run("RotatedCredentials", testConcurrentWritesRotatedCredentials)
	t.Run("DeletedRow", testConcurrentWritesDeletedRow)
}

// testConcurrentWritesRotatedCredentials checks that credentials that are rotated during
// resolve are kept.
func testConcurrentWritesRotatedCredentials(t *testing.T) {
	t.Parallel()
	pool := seededWith(t, bedrock("us-east-1"))
	err := during(t, pool, `UPDATE public.ai_providers SET settings = replace(settings, '"environment"', '"rotated"')`, func() error {
		_, err := takeEnv(t.Context(), pool, noKeys, bedrock("eu-west-1"), false, drift.IgnoreCredentials)
		return err
	})
	require.NoError(t, err)
	require.Equal(t, "rotated eu-west-1", value(t, pool, `SELECT concat_ws(' ', settings::jsonb->>'access_key_secret', settings::jsonb->>'region') FROM public.ai_providers`))
}

// testConcurrentWritesDeletedRow checks that a row that is deleted during resolve is
// inserted, and not reported as updated.
func testConcurrentWritesDeletedRow(t *testing.T) {
	t.Parallel()
	pool := seededWith(t, bedrock("us-east-1"))
	var outcome reconcile.Outcome
	err := during(t, pool, `DELETE FROM public.ai_providers`, func() (err error) {
		outcome, err = takeEnv(t.Context(), pool, noKeys, bedrock("eu-west-1"), false, drift.IgnoreCredentials)
		return err
	})
	require.NoError(t, err)
	require.Equal(t, drift.Missing, outcome.Kind)
	require.Equal(t, outcome.ProviderID.String(), value(t, pool, `SELECT id::text FROM public.ai_providers`))
	require.Equal(t, "provider.create", value(t, pool, `SELECT action FROM provwatch.audit_outbox ORDER BY seq DESC LIMIT 1`))
}
