package verify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

var reload = verify.Everything(pubsub.SourceReload)

// at returns a provider with a base URL.
func at(name, baseURL string) provider.Desired {
	d := openAI(name)
	d.BaseURL = baseURL
	return d
}

// lockProviders locks the provider table in a transaction, which the caller ends.
func lockProviders(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	_, err = tx.Exec(t.Context(), `LOCK TABLE public.ai_providers IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	return tx
}

// waiting returns how many sessions of a database wait for a lock.
func waiting(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return value(t, pool, `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
}

func TestEnvironmentReload(t *testing.T) {
	t.Parallel()
	t.Run("DuringVerification", testEnvironmentReloadDuringVerification)
	t.Run("FormerObservation", testEnvironmentReloadFormerObservation)
	t.Run("AmongVerifications", testEnvironmentReloadAmongVerifications)
	t.Run("OfCredentials", testEnvironmentReloadOfCredentials)
}

// testEnvironmentReloadDuringVerification has a row that agrees with the former
// environment, and not with its replacement.
func testEnvironmentReloadDuringVerification(t *testing.T) {
	t.Parallel()
	pool, v, metrics := seeded(t, drift.IgnoreCredentials, at("a", "https://1/"), openAI("dropped"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'dropped'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	tx := lockProviders(t, pool)
	verified := make(chan error, 1)
	go func() { verified <- v.Verify(t.Context(), resync) }()
	waittest.Until(t, func() bool { return waiting(t, pool) == "1" }, "the verification waits for the table")
	v.SetDesired([]provider.Desired{at("a", "https://2/")})
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, waittest.Receive(t, verified, "the verification ends"))
	want := []string{"1 disabled dropped resync", "2 changed a resync", "3 resolved dropped resync"}
	require.Equal(t, want, alerts(t, pool))
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Equal(t, want, alerts(t, pool))
	require.Equal(t, map[drift.Kind]int{drift.Changed: 1}, metrics.drifting)
}

// testEnvironmentReloadFormerObservation observes a provider as the WAL source does, which
// records it in a transaction of its own.
func testEnvironmentReloadFormerObservation(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, at("a", "https://1/"))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/'`)
	record := func(reloads bool) {
		t.Helper()
		observed, err := v.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
		require.NoError(t, err)
		require.Len(t, observed, 1)
		if reloads {
			v.SetDesired([]provider.Desired{at("a", "https://2/")})
		}
		var recorded verify.Recorded
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
			recorded, err = v.Record(t.Context(), tx, observed, pubsub.SourceResync)
			return err
		}))
		v.Announce(t.Context(), recorded)
	}
	record(true)
	require.Empty(t, alerts(t, pool))
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Empty(t, alerts(t, pool))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://1/'`)
	record(false)
	require.Equal(t, []string{"1 changed a resync"}, alerts(t, pool))
}

// testEnvironmentReloadAmongVerifications replaces the environment again and again while
// others verify. After the last verification of each environment, what is recorded agrees
// with it, and alerts begin and end a drift by turns.
func testEnvironmentReloadAmongVerifications(t *testing.T) {
	t.Parallel()
	pool, v, metrics := seeded(t, drift.IgnoreCredentials, at("a", "https://1/"), openAI("b"))
	hint := verify.Request{ProviderIDs: []uuid.UUID{idOf(t, pool, "a")}, Source: pubsub.SourceNotify}
	for i := range 30 {
		var group sync.WaitGroup
		failed := make([]error, 2)
		for n, request := range []verify.Request{resync, hint} {
			group.Go(func() { failed[n] = v.Verify(t.Context(), request) })
		}
		environment, kind := at("a", "https://1/"), drift.InSync
		if i%2 == 0 {
			environment, kind = at("a", "https://2/"), drift.Changed
		}
		v.SetDesired([]provider.Desired{environment, openAI("b")})
		group.Wait()
		require.NoError(t, errors.Join(failed...))
		require.NoError(t, v.Verify(t.Context(), reload))
		require.Equal(t, string(kind), value(t, pool, `SELECT kind FROM provwatch.drift_state WHERE provider = 'a'`))
		if kind == drift.InSync {
			require.Empty(t, metrics.drifting)
		}
	}
	for i, alert := range alerts(t, pool) {
		want := []string{"changed", "resolved"}[i%2]
		require.True(t, strings.HasPrefix(alert, fmt.Sprintf("%d %s a ", i+1, want)), alert)
	}
}

// testEnvironmentReloadOfCredentials has the environment read again and again, unchanged,
// while rows are compared with their credentials. Nothing differs at any moment.
func testEnvironmentReloadOfCredentials(t *testing.T) {
	t.Parallel()
	desired := make([]provider.Desired, 50)
	for i := range desired {
		desired[i] = openAI(fmt.Sprintf("p%02d", i), fmt.Sprintf("sk-%02d-0123456789abcdef", i))
	}
	pool, v, _ := seeded(t, drift.AlertCredentials, desired...)
	for range 20 {
		verified := make(chan error, 1)
		go func() { verified <- v.Verify(t.Context(), resync) }()
		for range 100 {
			v.SetDesired(desired)
		}
		require.NoError(t, waittest.Receive(t, verified, "the verification ends"))
	}
	require.Empty(t, alerts(t, pool))
}
