package wal

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// TestChecker has a provider that the table disables, and the mirror of that table.
func TestChecker(t *testing.T) {
	t.Parallel()
	disabled := fullRow{name: "gpt", baseURL: "https://h/"}
	newChecker := func(t *testing.T) (*checker, *pgxpool.Pool, uuid.UUID) {
		pool, _ := pgtest.NewPool(t)
		queries := store.On(pool)
		startPosition(t, queries)
		h, _ := newTestHandler(pool, provider.Desired{Name: "gpt", Type: provider.OpenAI, BaseURL: "https://h/"})
		c := h.checker
		require.NoError(t, c.verifier.TakeOver(t.Context(), 0, pubsub.SourceBoot))
		var err error
		c.mirror.hasher, err = c.verifier.Hasher(t.Context())
		require.NoError(t, err)
		id := uuid.New()
		_, err = pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, enabled) VALUES ($1, 'openai', 'gpt', 'https://h/', false)`, id)
		require.NoError(t, err)
		require.NoError(t, c.mirror.copyTable(t.Context(), queries, nil))
		c.mirror.saved()
		return c, pool, id
	}
	// begin begins a verification, which does not wait.
	begin := func(t *testing.T, c *checker) {
		t.Helper()
		c.take(verify.Everything(pubsub.SourceResync))
		wait, err := c.begin(t.Context())
		require.NoError(t, err)
		require.Zero(t, wait)
		require.Nil(t, c.waiting)
		require.Len(t, c.current.observed, 1)
	}
	marker := func(c *checker) *outcome { return &outcome{markers: []string{"another", c.current.token}} }

	t.Run("RecordsWhatTheMirrorAgreesWith", func(t *testing.T) {
		c, pool, _ := newChecker(t)
		begin(t, c)
		require.False(t, c.see(&outcome{markers: []string{"another"}}))
		require.True(t, c.see(marker(c)))
		ended, err := c.finish(t.Context())
		require.NoError(t, err)
		require.False(t, ended.again)
		require.True(t, c.isFree())
		var kind, source string
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT kind, source FROM provwatch.drift_alerts`).Scan(&kind, &source))
		require.Equal(t, []string{"disabled", "resync"}, []string{kind, source})
	})
	t.Run("LeavesToTheStreamWhatItHasShownMeanwhile", func(t *testing.T) {
		c, pool, id := newChecker(t)
		begin(t, c)
		require.False(t, c.see(&outcome{touched: map[drift.Subject]bool{{Provider: "gpt"}: true}}))
		c.mirror.apply(change{removed: id})
		require.True(t, c.see(marker(c)))
		ended, err := c.finish(t.Context())
		require.NoError(t, err)
		require.NotNil(t, ended)
		require.Empty(t, alertsOf(t, pool))
	})
	t.Run("ADisagreementThatStaysIsAGap", func(t *testing.T) {
		c, pool, id := newChecker(t)
		moved := disabled
		moved.baseURL = "https://elsewhere/"
		require.NoError(t, c.mirror.fetch(t.Context(), store.On(pool), []uuid.UUID{id}, nil))
		c.mirror.apply(change{put: moved.version(id)})
		for range maxDisagreements {
			begin(t, c)
			ended, err := c.finish(t.Context())
			require.NoError(t, err)
			require.True(t, ended.again)
		}
		begin(t, c)
		_, err := c.finish(t.Context())
		require.Equal(t, `the mirror of provider "gpt" disagrees with the provider table`, asGap(err).reason)
		request, ok := c.unfinished()
		require.True(t, ok)
		require.Equal(t, verify.Everything(pubsub.SourceResync), request)
		require.Empty(t, alertsOf(t, pool))
	})
	t.Run("AnAgreementEndsADisagreement", func(t *testing.T) {
		c, pool, id := newChecker(t)
		moved := disabled
		moved.baseURL = "https://elsewhere/"
		require.NoError(t, c.mirror.fetch(t.Context(), store.On(pool), []uuid.UUID{id}, nil))
		c.mirror.apply(change{put: moved.version(id)})
		begin(t, c)
		_, err := c.finish(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[drift.Subject]int{{Provider: "gpt"}: 1}, c.disagreed)
		c.mirror.apply(change{put: disabled.version(id)})
		begin(t, c)
		_, err = c.finish(t.Context())
		require.NoError(t, err)
		require.Empty(t, c.disagreed)
	})
	t.Run("WaitsUntilQueriesSeeTheStream", func(t *testing.T) {
		c, pool, _ := newChecker(t)
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(t.Context()) }()
		var xid int64
		require.NoError(t, tx.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&xid))
		c.visibility.add(&transaction{xid: uint32(xid), keysTouched: true})
		c.take(verify.Everything(pubsub.SourceResync))
		before := minVisiblePause
		for range 3 {
			wait, err := c.begin(t.Context())
			require.NoError(t, err)
			require.InDelta(t, before, wait, float64(before)/2)
			require.Nil(t, c.current)
			require.False(t, c.isFree())
			before *= 2
		}
		require.NoError(t, tx.Commit(t.Context()))
		wait, err := c.begin(t.Context())
		require.NoError(t, err)
		require.Zero(t, wait)
		require.NotNil(t, c.current)
	})
}
