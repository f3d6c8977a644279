package wal

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/schema"
	"provwatch/internal/store"
)

// measured keeps what a monitor measures.
type measured struct{ statuses []SlotStatus }

func (m *measured) SlotObserved(s SlotStatus) { m.statuses = append(m.statuses, s) }
func (m *measured) TransactionsHandled(int)   {}

func TestMonitor(t *testing.T) {
	t.Parallel()
	newMonitor := func(t *testing.T) (*monitor, *measured, *pgxpool.Pool) {
		o, s, pool := newTestOpener(t)
		_, _, err := schema.Migrate(t.Context(), pool.Config().ConnConfig, schema.Needs{Publication: true})
		require.NoError(t, err)
		_, err = o.replace(t.Context(), s, storedState{}, newMirror(hasher))
		require.NoError(t, err)
		metrics := &measured{}
		retention := &retention{logger: slog.New(slog.DiscardHandler), metrics: metrics}
		return &monitor{pool: pool, term: o.term, slot: s.server.Slot, retention: retention, marks: &marks{}}, metrics, pool
	}
	t.Run("MeasuresTheSlot", func(t *testing.T) {
		m, metrics, _ := newMonitor(t)
		require.NoError(t, m.check(t.Context()))
		require.Len(t, metrics.statuses, 1)
		require.Equal(t, "reserved", metrics.statuses[0].WALStatus)
	})
	t.Run("ASlotThatIsDroppedIsAGap", func(t *testing.T) {
		m, _, pool := newMonitor(t)
		_, err := DropSlot(t.Context(), pool, m.slot)
		require.NoError(t, err)
		require.Equal(t, slotGone, asGap(m.check(t.Context())).reason)
	})
	t.Run("ATableThatIsNotPublishedIsAMarkedGap", func(t *testing.T) {
		m, _, pool := newMonitor(t)
		_, err := pool.Exec(t.Context(), `ALTER PUBLICATION provwatch DROP TABLE public.ai_provider_keys`)
		require.NoError(t, err)
		gap := asGap(m.check(t.Context()))
		require.Contains(t, gap.reason, "no longer published")
		position, err := store.On(pool).ReadWALPosition(t.Context())
		require.NoError(t, err)
		require.Equal(t, gap.reason, position.Gap)
	})
	t.Run("PublishedAgainByAnother", func(t *testing.T) {
		m, _, pool := newMonitor(t)
		require.NoError(t, m.check(t.Context()))
		_, err := pool.Exec(t.Context(), `ALTER PUBLICATION provwatch DROP TABLE public.ai_provider_keys`)
		require.NoError(t, err)
		// Before the next check.
		_, _, err = schema.Migrate(t.Context(), pool.Config().ConnConfig, schema.Needs{Publication: true})
		require.NoError(t, err)
		require.Equal(t, "the publication had to be created again", asGap(m.check(t.Context())).reason)
	})
	t.Run("ALaterTermEndsTheStream", func(t *testing.T) {
		m, metrics, pool := newMonitor(t)
		_, err := store.On(pool).BeginTerm(t.Context(), store.BeginTermParams{})
		require.NoError(t, err)
		require.ErrorIs(t, m.check(t.Context()), store.ErrLaterTerm)
		require.Empty(t, metrics.statuses)
	})
}

func TestRetention(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	metrics := &measured{}
	r := &retention{maxLag: 100, logger: slog.New(slog.NewTextHandler(&log, nil)), metrics: metrics}
	warnings := func() int { return bytes.Count(log.Bytes(), []byte("retains more than half")) }
	for _, c := range []struct {
		retained int64
		warnings int
		tooMuch  bool
	}{
		{50, 0, false}, {51, 1, false}, {99, 1, false}, {50, 1, false}, {100, 2, false}, {101, 2, true},
	} {
		reason := r.measure(t.Context(), "s", store.InspectSlotRow{RetainedBytes: c.retained})
		require.Equal(t, c.tooMuch, reason != "", c.retained)
		require.Equal(t, c.warnings, warnings(), c.retained)
		require.Equal(t, c.retained, metrics.statuses[len(metrics.statuses)-1].RetainedBytes)
	}
	r.maxLag = 0
	require.Empty(t, r.measure(t.Context(), "s", store.InspectSlotRow{RetainedBytes: 1 << 40}))
}
