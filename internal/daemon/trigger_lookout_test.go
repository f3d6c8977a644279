package daemon

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/observe"
	"provwatch/internal/pgtest"
	"provwatch/internal/schema"
	"provwatch/internal/verify"
)

// TestTriggerLookout looks while triggers are missing, after the owner has made them, after
// tables and triggers were made again, and after some have ceased to fire in every session.
func TestTriggerLookout(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	require.NoError(t, schema.RemoveTriggers(t.Context(), pool))
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	pending, shared := verify.NewQueue(), &leadership{}
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: &statusPage{}, health: &health{}}
	verifier := verify.New(pool, nil, drift.IgnoreCredentials, logger, metrics)
	current := &sourceSwitch{
		leadership: shared, metrics: metrics, logger: logger,
		publisher: &publisher{pool: pool, worker: uuid.New(), verifier: verifier, leadership: shared, logger: logger},
		report:    &report{supervisor: describing(func() {})},
	}
	lookout := newTriggerLookout(&triggers{pool: pool, migrate: schema.Check, pending: pending, logger: logger}, current, "the reason")
	look := func(want SourceMode, verifies bool) {
		t.Helper()
		lookout.look(t.Context())
		require.Equal(t, want, shared.currentSource())
		request, ok := pending.Get()
		require.Equal(t, verifies, ok)
		if ok {
			require.True(t, request.All)
			pending.Done()
		}
	}
	warned := func() int { return bytes.Count(log.Bytes(), []byte("alerts come from this source instead")) }

	look(ResyncSource, false)
	look(ResyncSource, false)
	require.Equal(t, 1, warned())
	require.Contains(t, log.String(), `source=resync reason="the reason; the triggers on the provider tables are missing" every=45s remedy="run worker migrate --source=notify as the owner of the provider tables"`)
	lookout.verifyAt = time.Now()
	look(ResyncSource, true)
	look(ResyncSource, false)

	makeTriggers(t, pool)
	look(NotifySource, true)
	look(NotifySource, false)
	rebuildTables(t, pool)
	makeTriggers(t, pool)
	look(NotifySource, true)
	look(NotifySource, false)
	_, err := pool.Exec(t.Context(), `ALTER TABLE public.ai_providers DISABLE TRIGGER provwatch_provider_update`)
	require.NoError(t, err)
	look(ResyncSource, false)
	require.Equal(t, 3, warned())
}
