package wal

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// appliedAlert is what an alert of the WAL has of its transaction.
type appliedAlert struct {
	Kind, LSN string
	XID       int64
}

// alertsOf returns the alerts that are recorded, in their order.
func alertsOf(t *testing.T, pool *pgxpool.Pool) []appliedAlert {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT kind, lsn::text, xid FROM provwatch.drift_alerts ORDER BY seq`)
	require.NoError(t, err)
	alerts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[appliedAlert])
	require.NoError(t, err)
	return alerts
}

// recordedAWS is the provider of the recordings.
var recordedAWS = provider.Desired{Name: "aws", Type: provider.Anthropic, BaseURL: "https://u:q7zleak@h/", Bedrock: &provider.Bedrock{Region: "us-east-1"}}

// TestApplier applies what a server has sent for an insert, an update, a new id and a
// delete of one provider.
func TestApplier(t *testing.T) {
	t.Parallel()
	list := transactions(t, recordings(t)["postgres18_rows"])
	require.Len(t, list, 4)
	alert := func(kind drift.Kind, i int) appliedAlert {
		return appliedAlert{string(kind), list[i].end.String(), int64(list[i].xid)}
	}
	newApplier := func(t *testing.T) (*applier, *pgxpool.Pool) {
		pool, _ := pgtest.NewPool(t)
		startPosition(t, store.On(pool))
		h, _ := newTestHandler(pool, recordedAWS)
		require.NoError(t, h.applier.verifier.TakeOver(t.Context(), 0, pubsub.SourceBoot))
		return h.applier, pool
	}
	requireApplied := func(t *testing.T, a *applier, pool *pgxpool.Pool) {
		require.Equal(t, []appliedAlert{alert(drift.Disabled, 1), alert(drift.Missing, 3)}, alertsOf(t, pool))
		requirePosition(t, store.On(pool), list[3].end)
		require.Equal(t, list[3].end, a.position.applied)
		require.Equal(t, list[3].end, a.confirmer.marks.confirmed.load())
		var mirrored int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM provwatch.wal_mirror`).Scan(&mirrored))
		require.Zero(t, mirrored)
	}
	t.Run("OneByOne", func(t *testing.T) {
		a, pool := newApplier(t)
		for i, tx := range list {
			seen, err := a.apply(t.Context(), []event{{transaction: tx}})
			require.NoError(t, err)
			require.Equal(t, 1, seen.handled)
			require.True(t, seen.keysTouched)
			require.Contains(t, seen.touched, drift.Subject{Provider: "aws"})
			requirePosition(t, store.On(pool), list[i].end)
		}
		requireApplied(t, a, pool)
	})
	t.Run("InOneBatch", func(t *testing.T) {
		a, pool := newApplier(t)
		var batch []event
		for _, tx := range list {
			batch = append(batch, event{transaction: tx})
		}
		seen, err := a.apply(t.Context(), batch)
		require.NoError(t, err)
		require.Equal(t, len(list), seen.handled)
		requireApplied(t, a, pool)

		seen, err = a.apply(t.Context(), batch)
		require.NoError(t, err)
		require.Zero(t, seen.handled, "what is recorded already is passed over")
		requireApplied(t, a, pool)
	})
	t.Run("InParts", func(t *testing.T) {
		a, pool := newApplier(t)
		_, err := a.apply(t.Context(), []event{{transaction: list[0]}})
		require.NoError(t, err)
		large, err := a.beginLarge(t.Context())
		require.NoError(t, err)
		defer large.rollback(t.Context())
		for _, tx := range list[1:3] {
			require.NoError(t, large.take(t.Context(), tx))
			require.NoError(t, large.idle(t.Context()))
		}
		require.Empty(t, alertsOf(t, pool), "nothing is recorded before the last part")
		seen, err := large.commit(t.Context(), list[2])
		require.NoError(t, err)
		require.Equal(t, 1, seen.handled)
		require.Equal(t, []appliedAlert{alert(drift.Disabled, 2)}, alertsOf(t, pool),
			"the parts are compared as a whole, as of the last one")
		requirePosition(t, store.On(pool), list[2].end)
	})
}

// TestRenamedRow gives the row of a provider other names in one transaction, applied as a
// whole and in parts.
func TestRenamedRow(t *testing.T) {
	t.Parallel()
	desired := provider.Desired{Name: "a", Type: provider.OpenAI, BaseURL: "https://h/"}
	id := uuid.New()
	named := func(name string) change {
		return change{put: fullRow{name: name, baseURL: desired.BaseURL, enabled: true}.version(id)}
	}
	end := pglogrepl.LSN(0x20)
	transactionOf := func(changes ...change) *transaction {
		end += 0x10
		return &transaction{commit: end - 8, end: end, xid: 7, committedAt: time.Now(), changes: changes}
	}
	recorded := func(t *testing.T, pool *pgxpool.Pool) []string {
		t.Helper()
		rows, err := pool.Query(t.Context(), `SELECT concat_ws(' ', kind, provider, 'to ' || nullif(renamed_to, '')) FROM provwatch.drift_alerts ORDER BY seq`)
		require.NoError(t, err)
		alerts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return alerts
	}
	pool, _ := pgtest.NewPool(t)
	startPosition(t, store.On(pool))
	h, _ := newTestHandler(pool, desired)
	a := h.applier
	require.NoError(t, a.verifier.TakeOver(t.Context(), 0, pubsub.SourceBoot))
	apply := func(changes ...change) {
		t.Helper()
		_, err := a.apply(t.Context(), []event{{transaction: transactionOf(changes...)}})
		require.NoError(t, err)
	}
	apply(named("a"))
	apply(named("b"), named("c"))
	apply(named("d")) // the provider is missing already
	apply(named("a"))
	apply(named("b"), named("a"))
	want := []string{"missing a to c", "resolved a"}
	require.Equal(t, want, recorded(t, pool))

	large, err := a.beginLarge(t.Context())
	require.NoError(t, err)
	defer large.rollback(t.Context())
	first, last := transactionOf(named("b")), transactionOf(named("c"))
	first.more, first.end = true, 0
	require.NoError(t, large.take(t.Context(), first))
	require.NoError(t, large.take(t.Context(), last))
	_, err = large.commit(t.Context(), last)
	require.NoError(t, err)
	require.Equal(t, append(want, "missing a to c"), recorded(t, pool))
}
