package daemon

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/retry"
	"provwatch/internal/schema"
	"provwatch/internal/verify"
)

// afterQuery does something once, after the first query that has a text.
type afterQuery struct {
	text string
	do   func()
	once sync.Once
}

type tracedQuery struct{}

func (a *afterQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, tracedQuery{}, data.SQL)
}

func (a *afterQuery) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(tracedQuery{}).(string); strings.Contains(sql, a.text) {
		a.once.Do(a.do)
	}
}

// TestTriggers drops the provider tables and makes them again just after a worker has seen
// its triggers on them. The triggers are made again, and everything is verified after that.
func TestTriggers(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	traced := config.Copy()
	traced.ConnConfig.Tracer = &afterQuery{text: "name: CountTriggers", do: func() {
		_, err := pool.Exec(context.Background(), `BEGIN;
			CREATE TABLE public.new_providers (LIKE public.ai_providers INCLUDING ALL);
			CREATE TABLE public.new_keys (LIKE public.ai_provider_keys INCLUDING ALL);
			DROP TABLE public.ai_provider_keys, public.ai_providers;
			ALTER TABLE public.new_providers RENAME TO ai_providers;
			ALTER TABLE public.new_keys RENAME TO ai_provider_keys;
			COMMIT`, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}}
	looking, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	defer looking.Close()
	logger := slog.New(slog.DiscardHandler)
	pending := verify.NewQueue()
	keeper := triggerKeeper{
		triggers: &triggers{pool: looking, migrate: schema.Auto, pending: pending, logger: logger},
		wait:     retry.Policy{First: triggerInterval, Max: maxTriggerWait}.Backoff(),
	}
	made := func() bool {
		state, err := schema.FindTriggers(t.Context(), pool)
		require.NoError(t, err)
		return state == schema.TriggersAlways
	}
	keeper.ensure(t.Context())
	for range 2 {
		_, verifies := pending.Get()
		require.Equal(t, made(), verifies, "everything is verified once the triggers are there again")
		if verifies {
			return
		}
		keeper.ensure(t.Context())
	}
	t.Fatal("the triggers are not made again")
}
