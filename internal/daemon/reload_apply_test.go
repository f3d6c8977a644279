package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/observe"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/rollout"
	"provwatch/internal/seed"
	"provwatch/internal/verify"
)

// readOnce is an environment that can be read once.
type readOnce struct {
	named provider.Desired
	read  bool
}

func (r *readOnce) ReadEnvironment() (environment.Environment, error) {
	if r.read {
		return environment.Environment{}, errors.New("no such file")
	}
	r.read = true
	return environment.Environment{Providers: []provider.Desired{r.named}}, nil
}

// TestApplyGivenUp has a session end while an environment is applied, and a file that cannot be
// read when that is retried. The environment that was read before is compared with from then on,
// and what it has not written is alerted.
func TestApplyGivenUp(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	logger := slog.New(slog.DiscardHandler)
	named := func(baseURL string) provider.Desired {
		return provider.Desired{Name: "a", Type: provider.OpenAI, BaseURL: baseURL}
	}
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{named("https://former/")}, false, logger)
	require.NoError(t, err)
	traced := config.Copy()
	traced.ConnConfig.Tracer = &afterQuery{text: "name: LockSeed", do: func() {
		_, err := pool.Exec(context.Background(), `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
			WHERE datname = current_database() AND state = 'idle in transaction'`)
		require.NoError(t, err)
	}}
	applying, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	defer applying.Close()

	h := &health{}
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: &statusPage{}, health: h}
	verifier := verify.New(pool, []provider.Desired{named("https://former/")}, drift.IgnoreCredentials, logger, metrics)
	r := &reloader{
		options: Options{Keys: dbcrypttest.NewRing(t), Reader: &readOnce{named: named("https://new/")}, Logger: logger, ApplyReloadDrift: true},
		pool:    applying, pending: verify.NewQueue(), verifier: verifier, metrics: metrics, unsupported: &atomic.Pointer[[]string]{},
		files:      newFiles(nil, nil, h, logger, nil),
		membership: &membership{member: rollout.NewMember(uuid.New(), time.Minute, rollout.Seeds), woken: make(chan struct{}, 1)},
	}
	require.False(t, r.reload(t.Context()), "it is retried")
	require.True(t, r.reload(t.Context()))
	require.Equal(t, "no such file", h.worker().ReloadRefused)
	request, ok := r.pending.Get()
	require.True(t, ok, "everything is verified")
	require.NoError(t, verifier.Verify(t.Context(), request))
	var alerted string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT string_agg(concat_ws(' ', kind, provider, moved), ', ') FROM provwatch.drift_alerts`).Scan(&alerted))
	require.Equal(t, "changed a environment", alerted)
}
