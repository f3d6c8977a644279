package daemon

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/schema"
	"provwatch/internal/verify"
)

// afterQuery does something once, after the first query that has a text, and before its caller
// has the result. What it does can send such a query too.
type afterQuery struct {
	text string
	do   func()
	done atomic.Bool
}

type tracedQuery struct{}

func (a *afterQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, tracedQuery{}, data.SQL)
}

func (a *afterQuery) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(tracedQuery{}).(string); strings.Contains(sql, a.text) && !a.done.Swap(true) {
		a.do()
	}
}

// rebuildTables drops the provider tables and makes them again.
func rebuildTables(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	_, err := pool.Exec(context.Background(), `BEGIN;
		CREATE TABLE public.new_providers (LIKE public.ai_providers INCLUDING ALL);
		CREATE TABLE public.new_keys (LIKE public.ai_provider_keys INCLUDING ALL);
		DROP TABLE public.ai_provider_keys, public.ai_providers;
		ALTER TABLE public.new_providers RENAME TO ai_providers;
		ALTER TABLE public.new_keys RENAME TO ai_provider_keys;
		COMMIT`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
}

// makeTriggers makes the triggers as another worker's boot or "worker migrate" does.
func makeTriggers(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	_, _, err := schema.Migrate(t.Context(), pool.Config().ConnConfig, schema.Needs{Triggers: true})
	require.NoError(t, err)
}

func TestTriggers(t *testing.T) {
	t.Parallel()
	t.Run("TablesMadeAgainAfterTheLook", testTriggersTablesMadeAgainAfterTheLook)
	t.Run("MadeByOthers", testTriggersMadeByOthers)
	t.Run("MadeByTheOwner", testTriggersMadeByTheOwner)
	t.Run("NotSeenAtFirst", testTriggersNotSeenAtFirst)
	t.Run("DuringARestore", testTriggersDuringARestore)
}

// newTestKeeper returns a keeper in a worker that has asked for its first verification of
// everything, and what asks whether another was asked for since the last time.
func newTestKeeper(t *testing.T, pool *pgxpool.Pool, migrate schema.Mode) (k *triggerKeeper, verifies func() bool) {
	t.Helper()
	pending := verify.NewQueue()
	shared := &triggers{pool: pool, migrate: migrate, pending: pending, logger: slog.New(slog.DiscardHandler)}
	return shared.newKeeper(t.Context()), func() bool {
		request, asked := pending.Get()
		if asked {
			require.True(t, request.All)
			pending.Done()
		}
		return asked
	}
}

// testTriggersTablesMadeAgainAfterTheLook drops the provider tables and makes them again just
// after a worker has seen its triggers on them. The triggers are made again, and everything is
// verified after that.
func testTriggersTablesMadeAgainAfterTheLook(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	traced := config.Copy()
	traced.ConnConfig.Tracer = &afterQuery{text: "name: CountTriggers", do: func() { rebuildTables(t, pool) }}
	looking, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	defer looking.Close()
	keeper, verifies := newTestKeeper(t, looking, schema.Auto)
	keeper.ensure(t.Context())
	found, err := schema.FindTriggers(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, schema.TriggersAlways, found.State)
	require.True(t, verifies())
	keeper.ensure(t.Context())
	require.False(t, verifies(), "once is enough")
}

// testTriggersMadeByOthers has triggers that are there at each check, and were not in between.
// What was changed then has not been notified of.
func testTriggersMadeByOthers(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	keeper, verifies := newTestKeeper(t, pool, schema.Auto)
	for _, meanwhile := range []struct {
		what     string
		do       func()
		verifies bool
	}{
		{"nothing", func() {}, false},
		{"the tables were made again, and another worker has made the triggers", func() { rebuildTables(t, pool); makeTriggers(t, pool) }, true},
		{"nothing more", func() {}, false},
		{"a trigger was disabled for a while", func() {
			for _, change := range []string{"DISABLE", "ENABLE ALWAYS"} {
				_, err := pool.Exec(t.Context(), "ALTER TABLE public.ai_providers "+change+" TRIGGER provwatch_provider_update")
				require.NoError(t, err)
			}
		}, true},
		{"a row was changed", func() {
			_, err := pool.Exec(t.Context(), `UPDATE public.ai_providers SET updated_at = now()`)
			require.NoError(t, err)
		}, false},
	} {
		meanwhile.do()
		require.Equal(t, triggerInterval, keeper.ensure(t.Context()), meanwhile.what)
		require.Equal(t, meanwhile.verifies, verifies(), meanwhile.what)
	}
}

// testTriggersMadeByTheOwner has a worker that creates no triggers. It verifies everything now
// and then, and once more when the owner has made them.
func testTriggersMadeByTheOwner(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	require.NoError(t, schema.RemoveTriggers(t.Context(), pool))
	keeper, verifies := newTestKeeper(t, pool, schema.Off)
	for range 2 {
		keeper.ensure(t.Context())
		require.True(t, verifies())
	}
	makeTriggers(t, pool)
	keeper.ensure(t.Context())
	require.True(t, verifies(), "of what was changed since the last time")
	keeper.ensure(t.Context())
	require.False(t, verifies())
}

// testTriggersNotSeenAtFirst has a worker that could not look for the triggers before its first
// verification: it does not know whether they have notified of what was changed after that.
func testTriggersNotSeenAtFirst(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	pending := verify.NewQueue()
	shared := &triggers{pool: pool, migrate: schema.Auto, pending: pending, logger: slog.New(slog.DiscardHandler)}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	keeper := shared.newKeeper(ended)
	keeper.ensure(t.Context())
	_, asked := pending.Get()
	require.True(t, asked)
}

// testTriggersDuringARestore checks the triggers when a restore has dropped everything, and has
// made nothing again yet. A worker that migrated then would make the tables that the restore is
// about to make.
func testTriggersDuringARestore(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	keeper, verifies := newTestKeeper(t, pool, schema.Auto)
	for _, statement := range []string{"SCHEMA provwatch CASCADE", "TABLE public.ai_provider_keys, public.ai_providers, public.dbcrypt_keys", "TYPE public.ai_provider_type"} {
		_, err := pool.Exec(t.Context(), "DROP "+statement)
		require.NoError(t, err)
	}
	keeper.ensure(t.Context())
	require.True(t, verifies())
	require.ErrorContains(t, keeper.failed, "the schema provwatch was dropped, or is being restored")
	var made int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace`).Scan(&made))
	require.Zero(t, made)
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = 'provwatch'`).Scan(&made))
	require.Zero(t, made)
}
