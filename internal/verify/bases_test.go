package verify_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/store"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

func TestBaseRaces(t *testing.T) {
	t.Parallel()
	t.Run("Record", testBaseRacesRecord)
	t.Run("Seed", testBaseRacesSeed)
	t.Run("Observed", testBaseRacesObserved)
}

// whileApplied does something in another goroutine while the transaction of an apply has replaced
// the base of a provider, and commits that once the other waits for it.
func whileApplied(t *testing.T, pool *pgxpool.Pool, replaced drift.Base, do func() error) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	require.NoError(t, store.On(tx).ReplaceBase(t.Context(), store.NamedBase{Provider: "a", Base: replaced, Applied: true}))
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	waittest.Until(t, func() bool { return waiting(t, pool) == "1" }, "it waits for the base")
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, waittest.Receive(t, ended, "it ends"))
}

// bases are the base URLs of the base of the only provider.
const bases = `SELECT concat_ws(' ', env_base_url, db_base_url, CASE WHEN applied_lsn IS NOT NULL THEN 'applied' END) FROM provwatch.base_pairs`

// testBaseRacesRecord has a leader record that both sides agree, as it has read them before an
// apply that commits while the record waits for it.
func testBaseRacesRecord(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, at("a", "https://1/"))
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	exec(t, pool, `UPDATE provwatch.base_pairs SET origin = 'resolve'`) // which the next record replaces
	hint := verify.Request{ProviderIDs: []uuid.UUID{idOf(t, pool, "a")}, Source: pubsub.SourceNotify}
	whileApplied(t, pool, drift.Agreement(hasher, at("a", "https://2/"), drift.ByAgreement), func() error { return v.Verify(t.Context(), hint) })
	require.Equal(t, "https://2/ https://2/ applied", value(t, pool, bases))
}

// testBaseRacesObserved has an operator accept a change that comes between the reading of a row
// and its record, as the WAL source does both.
func testBaseRacesObserved(t *testing.T) {
	t.Parallel()
	desired := at("a", "https://1/")
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired)
	exec(t, pool, `UPDATE provwatch.base_pairs SET origin = 'resolve'`)
	observed, err := v.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
	require.NoError(t, err)
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/'`)
	_, err = reconcile.Resolve(t.Context(), pool, nil, []provider.Desired{desired}, reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials})
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := v.Record(t.Context(), tx, observed, pubsub.SourceResync)
		return err
	}))
	require.Equal(t, "https://1/ https://2/", value(t, pool, bases))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Empty(t, alerts(t, pool), "it is accepted")
}

// testBaseRacesSeed is the same of a seed, with a base before and without one.
func testBaseRacesSeed(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, at("a", "https://1/"))
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	stale, applied := drift.Agreement(hasher, at("a", "https://1/"), drift.ByAgreement), drift.Agreement(hasher, at("a", "https://2/"), drift.ByAgreement)
	for _, known := range []bool{true, false} {
		if !known {
			exec(t, pool, `DELETE FROM provwatch.base_pairs`)
		}
		recorded, err := store.On(pool).ReadRecorded(t.Context(), []string{"a"})
		require.NoError(t, err)
		if stale.SetAt = ""; known {
			stale.SetAt = recorded["a"].Base.SetAt
		}
		whileApplied(t, pool, applied, func() error {
			return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
				return store.On(tx).SetBases(t.Context(), []store.NamedBase{{Provider: "a", Base: stale}})
			})
		})
		require.Equal(t, "https://2/ https://2/ applied", value(t, pool, bases))
	}
}
